// SSIM on the GPU: one tile of the result per block and round.
#include <algorithm>
#include <cmath>

#include "common/integers.h"
#include "common/launch.h"
#include "ssim/ssim.h"
#include "ssim/ssim_math.h"

namespace vtadl {
namespace {

using std::int64_t;

constexpr int kBlock = 256;
constexpr int64_t kMaxBlocks = 1 << 30;

// ------------------------------------------------------------ device helpers

// Weighted sums over windows, down the columns and then along the rows:
// store(i, j, Σ weights[s]·weights[t]·load(i + s, j + t)) for all i, j.
// `room` holds height × (width + taps - 1) values.
template <typename T, typename Load, typename Store>
__device__ void blur(const ssim::Window<T>& window, int height, int width,
                     T* room, const Load& load, const Store& store) {
  const int columns = width + window.taps - 1;
  for (int item = threadIdx.x; item < height * columns; item += blockDim.x) {
    const int i = item / columns, j = item % columns;
    T sum = 0;
    for (int t = 0; t < window.taps; ++t) {
      sum += window.weights[t] * load(i + t, j);
    }
    room[item] = sum;
  }
  __syncthreads();
  for (int item = threadIdx.x; item < height * width; item += blockDim.x) {
    const int i = item / width, j = item % width;
    T sum = 0;
    for (int t = 0; t < window.taps; ++t) {
      sum += window.weights[t] * room[i * columns + j + t];
    }
    store(i, j, sum);
  }
  __syncthreads();
}

// Both images around a tile, less their pivots. A pivot is the mean of some
// pixels of the tile; 0 where that is no number, lest it spoil windows that
// hold none of them.
template <typename Scalar>
struct Images {
  using T = Accumulate<Scalar>;

  // (0, 0) is `halo` pixels above and to the left of the tile.
  __device__ Images(const SsimProblem& p, int64_t plane, int64_t top,
                    int64_t left, int64_t height, int64_t width, int halo)
      : x_(static_cast<const Scalar*>(p.x) + plane * p.height * p.width),
        y_(static_cast<const Scalar*>(p.y) + plane * p.height * p.width),
        height_(p.height),
        width_(p.width),
        top_(top - halo),
        left_(left - halo) {
    T sum_x = 0, sum_y = 0;
    for (int s = 0; s < ssim::kPivotPixels; ++s) {
      const int64_t i = top + ssim::pivot_row(s, height);
      const int64_t j = left + ssim::pivot_column(s, width);
      sum_x += static_cast<T>(x_[i * width_ + j]);
      sum_y += static_cast<T>(y_[i * width_ + j]);
    }
    constants = {static_cast<T>(p.c1), static_cast<T>(p.c2),
                 finite_or_zero(sum_x / ssim::kPivotPixels),
                 finite_or_zero(sum_y / ssim::kPivotPixels)};
  }

  __device__ T x(int i, int j) const { return at(x_, i, j, constants.pivot_x); }
  __device__ T y(int i, int j) const { return at(y_, i, j, constants.pivot_y); }

  ssim::Constants<T> constants;

 private:
  __device__ static T finite_or_zero(T value) {
    return std::isfinite(value) ? value : T(0);
  }

  __device__ T at(const Scalar* image, int i, int j, T pivot) const {
    const int64_t row = top_ + i, column = left_ + j;
    if (row < 0 || row >= height_ || column < 0 || column >= width_) return 0;
    return static_cast<T>(image[row * width_ + column]) - pivot;
  }

  const Scalar* x_;
  const Scalar* y_;
  const int64_t height_, width_, top_, left_;
};

// Window means of the four statistics, each height × width.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void statistics(const ssim::Window<T>& window,
                           const Images<Scalar>& images, int height, int width,
                           T* room, T* means) {
  for (int s = 0; s < ssim::kStatistics; ++s) {
    blur(
        window, height, width, room,
        [&](int i, int j) {
          return ssim::statistic(s, images.x(i, j), images.y(i, j));
        },
        [&](int i, int j, T mean) {
          means[(s * height + i) * width + j] = mean;
        });
  }
}

template <typename T>
__device__ ssim::Similarity<T> similarity(const T* means, int size, int i,
                                          const ssim::Constants<T>& c) {
  return ssim::similarity(means[i], means[size + i], means[2 * size + i],
                          means[3 * size + i], c);
}

// Sum of one value of each thread, for all of them.
template <typename T>
__device__ T block_sum(T value, T* room) {
  room[threadIdx.x] = value;
  for (unsigned half = kBlock / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
  }
  __syncthreads();
  return room[0];
}

// ------------------------------------------------------------------- kernels

// The map, the sums of its tiles, or both.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void forward_kernel(SsimForward p,
                               const __grid_constant__ ssim::Window<T> window) {
  const int height = SsimProblem::kTileHeight, width = SsimProblem::kTileWidth;
  const int64_t rows = p.tile_rows(), columns = p.tile_columns();
  T* means = shared_memory<T>();
  T* room = means + ssim::kStatistics * height * width;
  for (int64_t tile = blockIdx.x; tile < p.planes * rows * columns;
       tile += gridDim.x) {
    const int64_t plane = tile / columns / rows;
    const int64_t top = tile / columns % rows * height;
    const int64_t left = tile % columns * width;
    const Images<Scalar> images(p, plane, top, left,
                                smaller(height, p.map_height() - top),
                                smaller(width, p.map_width() - left), 0);
    statistics(window, images, height, width, room, means);
    T sum = 0;
    for (int i = threadIdx.x; i < height * width; i += blockDim.x) {
      const int64_t row = top + i / width, column = left + i % width;
      if (row >= p.map_height() || column >= p.map_width()) continue;
      const T value =
          similarity(means, height * width, i, images.constants).value;
      sum += value;
      if (p.map) {
        static_cast<T*>(
            p.map)[(plane * p.map_height() + row) * p.map_width() + column] =
            value;
      }
    }
    sum = block_sum(sum, room);
    if (p.tile_sums && threadIdx.x == 0) {
      static_cast<T*>(p.tile_sums)[tile] = sum;
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

// Gradients for a tile of side × side pixels. All windows that touch it are
// computed anew, with one pivot: no other block's results are needed.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void backward_kernel(SsimBackward p,
                                const __grid_constant__ ssim::Window<T> window,
                                int side, int64_t rows, int64_t columns) {
  const int halo = window.taps - 1;
  const int windows = side + halo;  // a side of the windows' region
  T* grads = shared_memory<T>();    // [statistics, windows, windows]
  T* sums = grads + ssim::kStatistics * windows * windows;
  T* room = sums + 2 * side * side;  // [windows, windows + halo]
  const T* upstream = static_cast<const T*>(p.grad);

  for (int64_t tile = blockIdx.x; tile < p.planes * rows * columns;
       tile += gridDim.x) {
    const int64_t plane = tile / columns / rows;
    const int64_t top = tile / columns % rows * side;
    const int64_t left = tile % columns * side;
    const Images<Scalar> images(p, plane, top, left,
                                smaller(side, p.height - top),
                                smaller(side, p.width - left), halo);
    statistics(window, images, windows, windows, room, grads);

    // From the means to the derivatives by them, in place.
    for (int i = threadIdx.x; i < windows * windows; i += blockDim.x) {
      const int64_t row = top - halo + i / windows;
      const int64_t column = left - halo + i % windows;
      const bool inside = row >= 0 && row < p.map_height() && column >= 0 &&
                          column < p.map_width();
      const auto result =
          similarity(grads, windows * windows, i, images.constants);
      const int64_t at =
          p.grad_of_map
              ? (plane * p.map_height() + row) * p.map_width() + column
              : plane;
      for (int s = 0; s < ssim::kStatistics; ++s) {
        grads[s * windows * windows + i] =
            inside ? upstream[at] * result.grad[s] : T(0);
      }
    }
    __syncthreads();

    // d x = blur(by mean_x) + 2 (x-px) blur(by squares) + (y-py) blur(by
    // product), and the same for y with x and y exchanged. Each thread adds to
    // the same pixels in every round.
    for (int s = 0; s < ssim::kStatistics; ++s) {
      blur(
          window, side, side, room,
          [&](int i, int j) { return grads[(s * windows + i) * windows + j]; },
          [&](int i, int j, T blurred) {
            const T x = images.x(i + halo, j + halo);
            const T y = images.y(i + halo, j + halo);
            T& of_x = sums[i * side + j];
            T& of_y = sums[(side + i) * side + j];
            if (s == ssim::kMeanX) {
              of_x = blurred;
            } else if (s == ssim::kMeanY) {
              of_y = blurred;
            } else if (s == ssim::kSquares) {
              of_x += 2 * x * blurred;
              of_y += 2 * y * blurred;
            } else {
              of_x += y * blurred;
              of_y += x * blurred;
            }
          });
    }
    for (int i = threadIdx.x; i < side * side; i += blockDim.x) {
      const int64_t row = top + i / side, column = left + i % side;
      if (row >= p.height || column >= p.width) continue;
      const int64_t at = (plane * p.height + row) * p.width + column;
      if (p.grad_x) {
        static_cast<Scalar*>(p.grad_x)[at] = static_cast<Scalar>(sums[i]);
      }
      if (p.grad_y) {
        static_cast<Scalar*>(p.grad_y)[at] =
            static_cast<Scalar>(sums[side * side + i]);
      }
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

// ----------------------------------------------------------------- launchers

unsigned blocks_for(int64_t tiles) {
  return static_cast<unsigned>(std::min(tiles, kMaxBlocks));
}

template <typename Scalar>
void forward(const SsimForward& p, void* stream) {
  using T = Accumulate<Scalar>;
  const int64_t room =
      SsimProblem::kTileHeight * (SsimProblem::kTileWidth + p.taps - 1);
  const int64_t means =
      ssim::kStatistics * SsimProblem::kTileHeight * SsimProblem::kTileWidth;
  launch("ssim forward_kernel", forward_kernel<Scalar>,
         {blocks_for(p.planes * p.tile_rows() * p.tile_columns()), kBlock,
          (means + room) * sizeof(T)},
         stream, p, ssim::Window<T>(p));
}

std::size_t backward_shared_bytes(int side, int taps, std::size_t size) {
  const std::size_t windows = side + taps - 1;
  return (ssim::kStatistics * windows * windows + 2 * side * side +
          windows * (windows + taps - 1)) *
         size;
}

template <typename Scalar>
void backward(const SsimBackward& p, void* stream) {
  using T = Accumulate<Scalar>;
  int side = 16;
  const std::size_t limit = max_shared_bytes();
  while (side > 4 && backward_shared_bytes(side, p.taps, sizeof(T)) > limit) {
    side /= 2;
  }
  const int64_t rows = divide_up(p.height, side);
  const int64_t columns = divide_up(p.width, side);
  launch("ssim backward_kernel", backward_kernel<Scalar>,
         {blocks_for(p.planes * rows * columns), kBlock,
          backward_shared_bytes(side, p.taps, sizeof(T))},
         stream, p, ssim::Window<T>(p), side, rows, columns);
}

}  // namespace

void ssim_forward_cuda(const SsimForward& p, void* stream) {
  if (p.planes == 0) return;
  dispatch(p.dtype, [&](auto zero) { forward<decltype(zero)>(p, stream); });
}

void ssim_backward_cuda(const SsimBackward& p, void* stream) {
  if (p.planes == 0) return;
  dispatch(p.dtype, [&](auto zero) { backward<decltype(zero)>(p, stream); });
}

}  // namespace vtadl
