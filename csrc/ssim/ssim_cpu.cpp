// SSIM on the CPU, in tiles that stay in the cache. Compiled once per
// instruction set.
#include <algorithm>
#include <cmath>

#include "common/integers.h"
#include "common/parallel.h"
#include "ssim/ssim.h"
#include "ssim/ssim_math.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

constexpr int kMaxHalo = SsimProblem::kMaxTaps - 1;
constexpr int64_t kHeight = SsimProblem::kTileHeight,
                  kWidth = SsimProblem::kTileWidth;

// A part of a plane; the coordinates may lie outside of it.
struct Region {
  int64_t plane, top, left, height, width;

  Region grown(int64_t halo_before, int64_t halo_after) const {
    return {plane, top - halo_before, left - halo_before,
            height + halo_before + halo_after,
            width + halo_before + halo_after};
  }
};

// Calls body(region) for each tile of a [planes, height, width] output.
template <typename Body>
void parallel_for_tiles(int64_t planes, int64_t height, int64_t width,
                        const Body& body) {
  const int64_t rows = divide_up(height, kHeight);
  const int64_t columns = divide_up(width, kWidth);
  parallel_for(planes * rows * columns, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t top = i / columns % rows * kHeight;
      const int64_t left = i % columns * kWidth;
      body(i, Region{i / columns / rows, top, left,
                     std::min(kHeight, height - top),
                     std::min(kWidth, width - left)});
    }
  });
}

// Room for planes of a tile and `kHalos` halos around it.
template <typename T, int kPlanes, int kHalos>
struct Planes {
  static constexpr int64_t kRows = kHeight + kHalos * kMaxHalo;
  static constexpr int64_t kStride = kWidth + kHalos * kMaxHalo + 4;

  T* row(int plane, int64_t i) { return data_[plane][i]; }
  const T* row(int plane, int64_t i) const { return data_[plane][i]; }

 private:
  alignas(64) T data_[kPlanes][kRows][kStride];
};

// out[j] = Σ_t weights[t]·rows[t·stride + j]: down the columns with the stride
// of a row, along a row with stride 1. kTaps = 0: as many as the window has.
template <int kTaps, typename T>
void convolve(const ssim::Window<T>& window, const T* rows, int64_t stride,
              int64_t width, T* out) {
  const int taps = kTaps ? kTaps : window.taps;
#pragma omp simd
  for (int64_t j = 0; j < width; ++j) {
    T sum = 0;
#pragma GCC unroll 11
    for (int t = 0; t < taps; ++t) {
      sum += window.weights[t] * rows[t * stride + j];
    }
    out[j] = sum;
  }
}

// Window means of one plane at row i, for `width` columns.
template <int kTaps, typename T, int kPlanes, int kHalos>
void blur_row(const ssim::Window<T>& window,
              const Planes<T, kPlanes, kHalos>& planes, int plane, int64_t i,
              int64_t width, T* out) {
  using Source = Planes<T, kPlanes, kHalos>;
  T column_sums[Source::kStride];
  convolve<kTaps>(window, planes.row(plane, i), Source::kStride,
                  width + window.taps - 1, column_sums);
  convolve<kTaps>(window, column_sums, 1, width, out);
}

template <typename Scalar>
const Scalar* pixel(const SsimProblem& p, const void* image, int64_t plane,
                    int64_t i, int64_t j) {
  return static_cast<const Scalar*>(image) + (plane * p.height + i) * p.width +
         j;
}

// Mean of some pixels of a region; 0 where that is no number, lest it spoil
// windows that hold none of them.
template <typename Scalar, typename T = Accumulate<Scalar>>
T pivot(const SsimProblem& p, const void* image, const Region& region) {
  T sum = 0;
  for (int s = 0; s < ssim::kPivotPixels; ++s) {
    const int64_t i = region.top + ssim::pivot_row(s, region.height);
    const int64_t j = region.left + ssim::pivot_column(s, region.width);
    sum += static_cast<T>(*pixel<Scalar>(p, image, region.plane, i, j));
  }
  const T mean = sum / ssim::kPivotPixels;
  return std::isfinite(mean) ? mean : T(0);
}

template <typename Scalar, typename T = Accumulate<Scalar>>
ssim::Constants<T> constants(const SsimProblem& p, const Region& region) {
  return {static_cast<T>(p.c1), static_cast<T>(p.c2),
          pivot<Scalar>(p, p.x, region), pivot<Scalar>(p, p.y, region)};
}

// One row of an image less the pivot, with zeros outside of the image.
template <typename Scalar, typename T = Accumulate<Scalar>>
void load_row(const SsimProblem& p, const void* image, const Region& region,
              int64_t row, T pivot, T* out) {
  const int64_t i = region.top + row;
  const bool inside = i >= 0 && i < p.height;
  const int64_t begin = inside ? std::max<int64_t>(0, -region.left) : 0;
  const int64_t end =
      inside ? std::min(region.width, p.width - region.left) : 0;
  std::fill_n(out, region.width, T(0));
  if (!inside) return;
  const Scalar* from = pixel<Scalar>(p, image, region.plane, i, region.left);
  for (int64_t j = begin; j < end; ++j) {
    out[j] = static_cast<T>(from[j]) - pivot;
  }
}

// The four statistics' integrands over a region.
template <typename Scalar, int kHalos, typename T = Accumulate<Scalar>>
void load(const SsimProblem& p, const Region& region,
          const ssim::Constants<T>& c,
          Planes<T, ssim::kStatistics, kHalos>& planes) {
  for (int64_t i = 0; i < region.height; ++i) {
    T* x = planes.row(ssim::kMeanX, i);
    T* y = planes.row(ssim::kMeanY, i);
    T* squares = planes.row(ssim::kSquares, i);
    T* product = planes.row(ssim::kProduct, i);
    load_row<Scalar>(p, p.x, region, i, c.pivot_x, x);
    load_row<Scalar>(p, p.y, region, i, c.pivot_y, y);
    for (int64_t j = 0; j < region.width; ++j) {
      squares[j] = x[j] * x[j] + y[j] * y[j];
      product[j] = x[j] * y[j];
    }
  }
}

// ---------------------------------------------------------------- forward

template <int kTaps, typename Scalar>
void forward(const SsimForward& p) {
  using T = Accumulate<Scalar>;
  const ssim::Window<T> window(p);
  const int64_t map_width = p.map_width();
  parallel_for_tiles(
      p.planes, p.map_height(), map_width,
      [&](int64_t index, const Region& tile) {
        const auto c = constants<Scalar>(p, tile);
        Planes<T, ssim::kStatistics, 1> planes;
        load<Scalar>(p, tile.grown(0, window.taps - 1), c, planes);
        T means[ssim::kStatistics][kWidth], values[kWidth], sum = 0;
        for (int64_t i = 0; i < tile.height; ++i) {
          for (int s = 0; s < ssim::kStatistics; ++s) {
            blur_row<kTaps>(window, planes, s, i, tile.width, means[s]);
          }
#pragma omp simd reduction(+ : sum)
          for (int64_t j = 0; j < tile.width; ++j) {
            values[j] = ssim::similarity(means[0][j], means[1][j], means[2][j],
                                         means[3][j], c)
                            .value;
            sum += values[j];
          }
          if (p.map) {
            const int64_t row = tile.plane * p.map_height() + tile.top + i;
            std::copy_n(values, tile.width,
                        static_cast<T*>(p.map) + row * map_width + tile.left);
          }
        }
        if (p.tile_sums) static_cast<T*>(p.tile_sums)[index] = sum;
      });
}

// --------------------------------------------------------------- backward

// Derivatives of the loss by the statistics of each window that a tile's pixels
// touch, zero for windows outside of the image. `windows` is the region of
// those windows' first pixels; its inputs lie in `planes`.
template <int kTaps, typename T>
void grad_of_statistics(const SsimBackward& p, const ssim::Window<T>& window,
                        const Region& windows, const ssim::Constants<T>& c,
                        const Planes<T, ssim::kStatistics, 2>& planes,
                        Planes<T, ssim::kStatistics, 1>& grads) {
  const T* upstream = static_cast<const T*>(p.grad);
  for (int64_t i = 0; i < windows.height; ++i) {
    T* out[ssim::kStatistics];
    for (int s = 0; s < ssim::kStatistics; ++s) {
      out[s] = grads.row(s, i);
      std::fill_n(out[s], windows.width, T(0));
    }
    const int64_t row = windows.top + i;
    if (row < 0 || row >= p.map_height()) continue;
    T means[ssim::kStatistics][Planes<T, ssim::kStatistics, 1>::kStride];
    for (int s = 0; s < ssim::kStatistics; ++s) {
      blur_row<kTaps>(window, planes, s, i, windows.width, means[s]);
    }
    const T* map_row = upstream +
                       (windows.plane * p.map_height() + row) * p.map_width() +
                       windows.left;
    const int64_t begin = std::max<int64_t>(0, -windows.left);
    const int64_t end = std::min(windows.width, p.map_width() - windows.left);
    for (int64_t j = begin; j < end; ++j) {
      const T grad = p.grad_of_map ? map_row[j] : upstream[windows.plane];
      const auto similarity = ssim::similarity(means[0][j], means[1][j],
                                               means[2][j], means[3][j], c);
      for (int s = 0; s < ssim::kStatistics; ++s) {
        out[s][j] = grad * similarity.grad[s];
      }
    }
  }
}

// d x = blur(by mean_x) + 2 (x-px) blur(by squares) + (y-py) blur(by product),
// and the same for y with x and y exchanged.
template <typename Scalar, typename T = Accumulate<Scalar>>
void store_grad(const T* by_mean, const T* by_squares, const T* by_product,
                const T* own, const T* other, int64_t width, Scalar* out) {
  for (int64_t j = 0; j < width; ++j) {
    out[j] = static_cast<Scalar>(by_mean[j] + 2 * own[j] * by_squares[j] +
                                 other[j] * by_product[j]);
  }
}

template <int kTaps, typename Scalar>
void backward(const SsimBackward& p) {
  using T = Accumulate<Scalar>;
  const ssim::Window<T> window(p);
  const int halo = window.taps - 1;
  parallel_for_tiles(
      p.planes, p.height, p.width, [&](int64_t, const Region& tile) {
        const auto c = constants<Scalar>(p, tile);
        const Region windows = tile.grown(halo, 0);
        Planes<T, ssim::kStatistics, 2> planes;
        Planes<T, ssim::kStatistics, 1> grads;
        load<Scalar>(p, tile.grown(halo, halo), c, planes);
        grad_of_statistics<kTaps>(p, window, windows, c, planes, grads);
        for (int64_t i = 0; i < tile.height; ++i) {
          T by[ssim::kStatistics][kWidth];
          for (int s = 0; s < ssim::kStatistics; ++s) {
            blur_row<kTaps>(window, grads, s, i, tile.width, by[s]);
          }
          const T* x = planes.row(ssim::kMeanX, i + halo) + halo;
          const T* y = planes.row(ssim::kMeanY, i + halo) + halo;
          const int64_t at =
              (tile.plane * p.height + tile.top + i) * p.width + tile.left;
          if (p.grad_x) {
            store_grad(by[ssim::kMeanX], by[ssim::kSquares], by[ssim::kProduct],
                       x, y, tile.width, static_cast<Scalar*>(p.grad_x) + at);
          }
          if (p.grad_y) {
            store_grad(by[ssim::kMeanY], by[ssim::kSquares], by[ssim::kProduct],
                       y, x, tile.width, static_cast<Scalar*>(p.grad_y) + at);
          }
        }
      });
}

// The usual window is unrolled.
template <typename Body>
void dispatch_taps(int taps, const Body& body) {
  if (taps == 11) return body(std::integral_constant<int, 11>());
  body(std::integral_constant<int, 0>());
}

void forward(const SsimForward& p) {
  dispatch(p.dtype, [&](auto zero) {
    dispatch_taps(p.taps, [&](auto taps) {
      forward<decltype(taps)::value, decltype(zero)>(p);
    });
  });
}

void backward(const SsimBackward& p) {
  dispatch(p.dtype, [&](auto zero) {
    dispatch_taps(p.taps, [&](auto taps) {
      backward<decltype(taps)::value, decltype(zero)>(p);
    });
  });
}

}  // namespace

extern const SsimCpuKernels ssim_cpu_kernels = {&forward, &backward};

}  // namespace vtadl::VTADL_CPU_CAPABILITY
