// The formulas of SSIM, for host and device.
#pragma once

#include <cstdint>

#include "common/simd.h"
#include "ssim/ssim.h"

namespace vtadl::ssim {

// In the functions below T is a float or a double, on the host also a vector.
// Pixels are in units of the data range, less a pivot taken near the window,
// which keeps the variances from cancelling.

// The weights in the type of the sums.
template <typename T>
struct Window {
  int taps;
  T weights[SsimProblem::kMaxTaps];

  VTADL_HOST_INLINE explicit Window(const SsimProblem& p) : taps(p.taps) {
    for (int t = 0; t < taps; ++t) weights[t] = static_cast<T>(p.window[t]);
  }
};

// Four statistics of a window, or derivatives with respect to them: with pivots
// px and py, E[x-px], E[y-py], E[(x-px)² + (y-py)²] and E[(x-px)(y-py)]. Under
// a mask E is the mean over valid pixels.
constexpr int kMeanX = 0, kMeanY = 1, kSquares = 2, kProduct = 3;
constexpr int kStatistics = 4;

// The pivot of a region is the mean of some of its pixels, on a grid of 4 x 4,
// without the smallest and the largest: one that is far from all others, a dead
// one perhaps, must not take the digits of those around it.
constexpr int kPivotPixels = 16;

VTADL_INLINE std::int64_t pivot_row(int which, std::int64_t height) {
  return (2 * (which / 4) + 1) * height / 8;
}

VTADL_INLINE std::int64_t pivot_column(int which, std::int64_t width) {
  return (2 * (which % 4) + 1) * width / 8;
}

template <typename T>
VTADL_INLINE T trimmed_mean(T sum, T smallest, T largest, T count) {
  if (count <= 2) return sum / count;
  return (sum - largest - smallest) / (count - 2);
}

// Under a mask: the weight of the valid pixels below which a window has none.
// Float32 holds smaller weights, but not their products.
constexpr double kLeastWeight = 1e-12;

// What is the same for all windows of a region.
template <typename S>
struct Constants {
  S c1, c2;
  bool luminance;
  S pivot_x, pivot_y;
};

// On the GPU a float's is good to 1 ULP, and takes no branch.
template <typename T>
VTADL_INLINE T reciprocal(T x) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == sizeof(float)) return __fdividef(1.0f, x);
#endif
  return ScalarOf<T>(1) / x;
}

template <typename T>
struct Similarity {
  T value;
  T grad[kStatistics];  // derivatives of the value by the statistics
};

template <typename T>
VTADL_INLINE Similarity<T> similarity(T dx, T dy, T squares, T product,
                                      const Constants<ScalarOf<T>>& c) {
  using S = ScalarOf<T>;
  const T raw_variances = squares - dx * dx - dy * dy;
  const auto clamped = raw_variances < S(0);
  const T variances = select(clamped, T{}, raw_variances);
  const T covariance = product - dx * dy;
  const T structure = S(2) * covariance + c.c2;
  const T structure_norm = variances + c.c2;

  const T mean_x = dx + c.pivot_x, mean_y = dy + c.pivot_y;
  T luminance = broadcast<T>(1), luminance_norm = broadcast<T>(1);
  if (c.luminance) {
    luminance = S(2) * mean_x * mean_y + c.c1;
    luminance_norm = mean_x * mean_x + mean_y * mean_y + c.c1;
  }
  const T scale = reciprocal<T>(luminance_norm * structure_norm);
  const T value = luminance * structure * scale;

  const T by_variances =
      select(clamped, T{}, -value * (luminance_norm * scale));
  const T by_covariance = S(2) * luminance * scale;
  T pull{}, shrink{};
  if (c.luminance) {
    pull = S(2) * structure * scale;
    shrink = S(2) * value * (structure_norm * scale);
  }
  return {value,
          {pull * mean_y - shrink * mean_x - by_covariance * dy -
               S(2) * by_variances * dx,
           pull * mean_x - shrink * mean_y - by_covariance * dx -
               S(2) * by_variances * dy,
           by_variances, by_covariance}};
}

// The gradient of a pixel of value `own` - own pivot, where the other image's
// is `other` - its pivot, from the sums over the windows that hold it of the
// derivatives by their statistics. The derivative by a mean, once the pivots
// have grown by `own` and `other`, is the same expression.
template <typename T, typename U>
VTADL_INLINE T pixel_grad(T by_mean, T by_squares, T by_product, U own,
                          U other) {
  return by_mean + ScalarOf<T>(2) * own * by_squares + other * by_product;
}

}  // namespace vtadl::ssim
