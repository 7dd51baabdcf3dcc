// Any window, doubles, masks: one tile per block and round.
#pragma once

#include "ssim/cuda/device.h"

namespace vtadl::ssim {

constexpr int kBlock = 256;
constexpr int kTileHeight = 16, kTileWidth = 32;  // of the map

// Blocks that the registers of a multiprocessor suffice for.
constexpr int kTileBlocks = 2;

// -------------------------------------------------------------------- pixels

// The pixels that a block looks at; those of an invalid pixel are 0, whatever
// it holds.
template <typename Scalar>
class Pixels {
  using T = Accumulate<Scalar>;

 public:
  const bool masked;

  // (0, 0) is at `top`, `left` of the images with their border. The pivots are
  // those of the first height × width.
  __device__ Pixels(const SsimProblem& p, T scale, int64_t plane, int64_t top,
                    int64_t left, int height, int width)
      : masked(p.mask != nullptr),
        x_(p, p.x, p.x_strides, plane),
        y_(p, p.y, p.y_strides, plane),
        mask_(p, p.mask, p.mask_strides, plane),
        top_(top - p.border),
        left_(left - p.border),
        height_(p.height),
        width_(p.width),
        units_(scale, T(0), T(0)) {
    const Span rows(-top_, p.height - top_, height);
    const Span columns(-left_, p.width - left_, width);
    if (rows.count <= 0 || columns.count <= 0) return;
    const int which = threadIdx.x % kPivotPixels;
    const int i = rows.begin + pivot_row(which, rows.count);
    const int j = columns.begin + pivot_column(which, columns.count);
    const bool counts = is_valid(i, j);
    const bool no_pixel = masked && !__any_sync(kFullMask, counts);
    const T otherwise_x = no_pixel ? mean_of(height, width, true) : T(0);
    const T otherwise_y = no_pixel ? mean_of(height, width, false) : T(0);
    units_ = {scale, pivot_of_lanes(raw_x(i, j), counts, otherwise_x),
              pivot_of_lanes(raw_y(i, j), counts, otherwise_y)};
  }

  __device__ Constants<T> constants(const Scale<T>& scale) const {
    return units_.constants(scale);
  }

  // Of the images, without the border.
  __device__ bool is_inside(int i, int j) const {
    const int64_t row = top_ + i, column = left_ + j;
    return row >= 0 && row < height_ && column >= 0 && column < width_;
  }
  __device__ bool is_valid(int i, int j) const {
    return is_inside(i, j) && (!masked || *mask_.at(top_ + i, left_ + j));
  }

  // Of pixels inside.
  __device__ T raw_x(int i, int j) const {
    return static_cast<T>(*x_.at(top_ + i, left_ + j));
  }
  __device__ T raw_y(int i, int j) const {
    return static_cast<T>(*y_.at(top_ + i, left_ + j));
  }

  // Without a mask the border, too, has values.
  __device__ T x(int i, int j) const {
    return is_valid(i, j) ? units_.x(raw_x(i, j)) : masked ? T(0) : units_.x(0);
  }
  __device__ T difference(int i, int j) const {
    return is_valid(i, j) ? units_.difference(raw_x(i, j), raw_y(i, j))
           : masked       ? T(0)
                          : units_.difference(0, 0);
  }

  __device__ T statistic(int which, int i, int j) const {
    const T x = this->x(i, j), difference = this->difference(i, j);
    const T y = x - difference;
    switch (which) {
      case kMean:
        return x;
      case kMeanDifference:
        return difference;
      case kSquares:
        return x * x + y * y;
      default:
        return difference * difference;
    }
  }

 private:
  // Of the valid numbers of x, or of y; for all lanes of a warp.
  __device__ T mean_of(int height, int width, bool of_x) const {
    T sum = 0, count = 0;
    for (int item = threadIdx.x % kWarp; item < height * width; item += kWarp) {
      const int i = item / width, j = item % width;
      if (!is_valid(i, j)) continue;
      const T pixel = of_x ? raw_x(i, j) : raw_y(i, j);
      if (!std::isfinite(pixel)) continue;
      sum += pixel;
      count += 1;
    }
    sum = warp_sum(sum);
    count = warp_sum(count);
    return count > 0 ? sum / count : T(0);
  }

  // What of [0, most) lies between the two.
  struct Span {
    int begin, count;

    __device__ Span(int64_t first, int64_t end, int most)
        : begin(static_cast<int>(first < 0 ? 0 : first)),
          count(static_cast<int>(smaller(end, most)) - begin) {}
  };

  const Plane<const Scalar> x_, y_;
  const Plane<const bool> mask_;
  const int64_t top_, left_, height_, width_;
  Units<T> units_;
};

// ------------------------------------------------------------- weighted sums

// Weighted sums over windows, down the columns and then along the rows:
// store(i, j, Σ weights[s]·weights[t]·load(i + s, j + t)) for all i, j.
// `room` holds height × (width + taps - 1) values.
template <typename T, typename Load, typename Store>
__device__ void blur(const Window<T>& window, int height, int width, T* room,
                     const Load& load, const Store& store) {
  const int columns = width + window.taps - 1;
  for (int item = threadIdx.x; item < height * columns; item += kBlock) {
    const int i = item / columns, j = item % columns;
    T sum = 0;
    for (int t = 0; t < window.taps; ++t) {
      sum += window.weights[t] * load(i + t, j);
    }
    room[item] = sum;
  }
  __syncthreads();
  for (int item = threadIdx.x; item < height * width; item += kBlock) {
    const int i = item / width, j = item % width;
    T sum = 0;
    for (int t = 0; t < window.taps; ++t) {
      sum += window.weights[t] * room[i * columns + j + t];
    }
    store(i, j, sum);
  }
  __syncthreads();
}

// The statistics of height × width windows and, under a mask, the weights of
// their valid pixels.
template <typename T>
struct Windows {
  T* means;  // [kStatistics, size]
  int size;
  T* weights;  // [size]; null without a mask

  template <typename Scalar>
  __device__ Windows(const Window<T>& window, const Pixels<Scalar>& pixels,
                     int height, int width, T* room, T* means)
      : means(means),
        size(height * width),
        weights(pixels.masked ? means + kStatistics * size : nullptr) {
    if (weights) {
      blur(
          window, height, width, room,
          [&](int i, int j) { return T(pixels.is_valid(i, j)); },
          [&](int i, int j, T weight) { weights[i * width + j] = weight; });
    }
    for (int s = 0; s < kStatistics; ++s) {
      blur(
          window, height, width, room,
          [&](int i, int j) { return pixels.statistic(s, i, j); },
          [&](int i, int j, T sum) {
            const int at = i * width + j;
            means[s * size + at] = weights ? sum / weights[at] : sum;
          });
    }
  }

  __device__ bool counts(int at) const {
    return !weights || weights[at] >= T(kLeastWeight);
  }
  __device__ Similarity<T> similarity(int at, const Constants<T>& c) const {
    const T statistics[kStatistics] = {means[at], means[size + at],
                                       means[2 * size + at],
                                       means[3 * size + at]};
    return ssim::similarity(statistics, c);
  }
};

// ------------------------------------------------------------------- forward

// Each pixel belongs to the tile of the window that it is the first of, or to
// the last tile.
template <typename Scalar, typename T>
__device__ void add_tile_errors(const Pixels<Scalar>& pixels,
                                const Tiling& tiling, const Tile& tile,
                                int halo, T (&sums)[SsimSums::kCount]) {
  int height = tiling.height_of(tile), width = tiling.width_of(tile);
  if (tile.top + height == tiling.height) height += halo;
  if (tile.left + width == tiling.width) width += halo;
  for (int item = threadIdx.x; item < height * width; item += kBlock) {
    const int i = item / width, j = item % width;
    if (pixels.is_inside(i, j)) {
      add_errors(pixels.raw_x(i, j), pixels.raw_y(i, j), sums);
    }
  }
}

// The map, the sums of its tiles, or both.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlock, kTileBlocks)
    tile_forward_kernel(SsimForward p, const __grid_constant__ Window<T> window,
                        const __grid_constant__ Scale<T> scale, Tiling tiling) {
  const int halo = window.taps - 1;
  T* room = shared_memory<T>();  // [kTileHeight, kTileWidth + halo]
  for (int64_t round = blockIdx.x; round < tiling.count(); round += gridDim.x) {
    const Tile tile = tiling.tile(round);
    const int height = tiling.height_of(tile), width = tiling.width_of(tile);
    const Pixels<Scalar> pixels(p, scale.scale, tile.plane, tile.top, tile.left,
                                height + halo, width + halo);
    const Windows<T> windows(window, pixels, height, width, room,
                             room + kTileHeight * (kTileWidth + halo));
    T sums[SsimSums::kCount] = {};
    for (int at = threadIdx.x; at < height * width; at += kBlock) {
      const bool counts = windows.counts(at);
      const T value =
          counts ? windows.similarity(at, pixels.constants(scale)).value : T(0);
      sums[SsimSums::kIndex] += value;
      sums[SsimSums::kWindows] += counts;
      const int64_t row = tile.plane * tiling.height + tile.top + at / width;
      if (p.map) {
        static_cast<T*>(p.map)[row * tiling.width + tile.left + at % width] =
            value;
      }
    }
    if (p.errors) add_tile_errors(pixels, tiling, tile, halo, sums);
    if (p.sums) {
      block_sums(sums, room);
      store_sums(p.sums, tiling.parts(), tiling, tile, sums);
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

inline Tiling tile_forward_tiling(const SsimProblem& p) {
  return {p.planes(), p.map_height(), p.map_width(), kTileHeight, kTileWidth};
}

template <typename Scalar>
void tile_forward(const SsimForward& p, void* stream) {
  using T = Accumulate<Scalar>;
  const Tiling tiling = tile_forward_tiling(p);
  const std::size_t room = kTileHeight * (kTileWidth + p.taps - 1);
  const std::size_t maps = kStatistics + (p.mask ? 1 : 0);
  launch("ssim tile_forward_kernel", tile_forward_kernel<Scalar>,
         {grid_size(tiling), kBlock,
          (room + maps * kTileHeight * kTileWidth) * sizeof(T)},
         stream, p, Window<T>(p), Scale<T>(p), tiling);
}

// ------------------------------------------------------------------ backward

// From the statistics of the windows to the derivatives by them, in place.
template <typename T>
__device__ void differentiate(const SsimBackward& p, T scale,
                              const Windows<T>& windows,
                              const Constants<T>& constants, int64_t plane,
                              int64_t top, int64_t left, int side) {
  const int64_t height = p.map_height(), width = p.map_width();
  const T same =
      scale *
      (p.grad_of_map ? T(1) : grad_of_sum<T>(p, plane, SsimSums::kIndex));
  for (int at = threadIdx.x; at < windows.size; at += kBlock) {
    const int64_t row = top + at / side, column = left + at % side;
    const bool counts = row >= 0 && row < height && column >= 0 &&
                        column < width && windows.counts(at);
    T grad = same;
    if (counts && p.grad_of_map) {
      grad *= static_cast<const T*>(
          p.grad)[(plane * height + row) * width + column];
    }
    if (windows.weights) grad /= windows.weights[at];
    const Similarity<T> index = windows.similarity(at, constants);
    VTADL_UNROLL
    for (int s = 0; s < kDerivatives; ++s) {
      windows.means[s * windows.size + at] =
          counts ? grad * index.grad[s] : T(0);
    }
  }
  __syncthreads();
}

// Gradients for a tile of side × side pixels, at most one for each thread. All
// windows that touch it are computed anew, with one pivot: no other block's
// results are needed.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlock, kTileBlocks)
    tile_backward_kernel(SsimBackward p,
                         const __grid_constant__ Window<T> window,
                         const __grid_constant__ Scale<T> scale,
                         Tiling tiling) {
  const int side = tiling.tile_height, halo = window.taps - 1;
  const int reach = side + halo;  // a side of the windows' region
  T* room = shared_memory<T>();   // [reach, reach + halo]
  for (int64_t round = blockIdx.x; round < tiling.count(); round += gridDim.x) {
    const Tile tile = tiling.tile(round);
    const int64_t top = tile.top + p.border - halo;
    const int64_t left = tile.left + p.border - halo;
    const Pixels<Scalar> pixels(p, scale.scale, tile.plane, top, left,
                                reach + halo, reach + halo);
    const Windows<T> windows(window, pixels, reach, reach, room,
                             room + reach * (reach + halo));
    differentiate(p, scale.scale, windows, pixels.constants(scale), tile.plane,
                  top, left, reach);
    const ErrorGrads<T> errors(p, tile.plane);
    T by[kDerivatives] = {};
    VTADL_UNROLL
    for (int s = 0; s < kDerivatives; ++s) {
      blur(
          window, side, side, room,
          [&](int i, int j) {
            return windows.means[s * windows.size + i * reach + j];
          },
          [&](int, int, T sum) { by[s] = sum; });
    }
    const int i = threadIdx.x / side, j = threadIdx.x % side;
    if (i < tiling.height_of(tile) && j < tiling.width_of(tile)) {
      const bool valid = pixels.is_valid(i + halo, j + halo);
      const T x = pixels.x(i + halo, j + halo);
      const T difference = pixels.difference(i + halo, j + halo);
      const T of_x = pixel_grad(by[kByX], by[kBySquares],
                                by[kBySquaredDifference], x, difference);
      const T of_y =
          pixel_grad(by[kByY], by[kBySquares], by[kBySquaredDifference],
                     x - difference, -difference);
      const T by_error = errors.of_x(pixels.raw_x(i + halo, j + halo),
                                     pixels.raw_y(i + halo, j + halo));
      if (p.grad_x) {
        *Plane<Scalar>(p, p.grad_x, p.grad_x_strides, tile.plane)
             .at(tile.top + i, tile.left + j) =
            static_cast<Scalar>((valid ? of_x : T(0)) + by_error);
      }
      if (p.grad_y) {
        *Plane<Scalar>(p, p.grad_y, p.grad_y_strides, tile.plane)
             .at(tile.top + i, tile.left + j) =
            static_cast<Scalar>((valid ? of_y : T(0)) - by_error);
      }
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

inline std::size_t tile_backward_bytes(const SsimProblem& p, int side,
                                       std::size_t size) {
  const std::size_t halo = p.taps - 1, reach = side + halo;
  const std::size_t maps = kStatistics + (p.mask ? 1 : 0);
  return (maps * reach * reach + reach * (reach + halo)) * size;
}

template <typename Scalar>
void tile_backward(const SsimBackward& p, void* stream) {
  using T = Accumulate<Scalar>;
  int side = 16;
  const std::size_t limit = max_shared_bytes();
  while (side > 4 && tile_backward_bytes(p, side, sizeof(T)) > limit) side /= 2;
  const Tiling tiling{p.planes(), p.height, p.width, side, side};
  launch("ssim tile_backward_kernel", tile_backward_kernel<Scalar>,
         {grid_size(tiling), kBlock, tile_backward_bytes(p, side, sizeof(T))},
         stream, p, Window<T>(p), Scale<T>(p), tiling);
}

}  // namespace vtadl::ssim
