// The formulas of SSIM, for host and device.
#pragma once

#include <cstdint>

#include "ssim/ssim.h"

namespace vtadl::ssim {

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
// px and py, E[x-px], E[y-py], E[(x-px)² + (y-py)²] and E[(x-px)(y-py)]. The
// pivots, taken near the window, keep the variances from cancelling.
constexpr int kMeanX = 0, kMeanY = 1, kSquares = 2, kProduct = 3;
constexpr int kStatistics = 4;

template <typename T>
VTADL_INLINE T statistic(int which, T x, T y) {
  switch (which) {
    case kMeanX:
      return x;
    case kMeanY:
      return y;
    case kSquares:
      return x * x + y * y;
    default:
      return x * y;
  }
}

// The pixels whose mean is the pivot of a region, on a grid of 4 x 4.
constexpr int kPivotPixels = 16;

VTADL_INLINE std::int64_t pivot_row(int which, std::int64_t height) {
  return (2 * (which / 4) + 1) * height / 8;
}

VTADL_INLINE std::int64_t pivot_column(int which, std::int64_t width) {
  return (2 * (which % 4) + 1) * width / 8;
}

// What is the same for all windows of a tile.
template <typename T>
struct Constants {
  T c1, c2, pivot_x, pivot_y;
};

template <typename T>
struct Similarity {
  T value;
  T grad[kStatistics];  // derivatives of the value by the statistics
};

template <typename T>
VTADL_INLINE Similarity<T> similarity(T dx, T dy, T squares, T product,
                                      const Constants<T>& c) {
  const T mean_x = dx + c.pivot_x, mean_y = dy + c.pivot_y;
  const T raw_variances = squares - dx * dx - dy * dy;
  const bool clamped = raw_variances < 0;
  const T variances = clamped ? T(0) : raw_variances;
  const T covariance = product - dx * dy;

  const T luminance = 2 * mean_x * mean_y + c.c1;
  const T structure = 2 * covariance + c.c2;
  const T luminance_norm = mean_x * mean_x + mean_y * mean_y + c.c1;
  const T structure_norm = variances + c.c2;
  const T scale = 1 / (luminance_norm * structure_norm);
  const T value = luminance * structure * scale;

  const T by_variances = clamped ? T(0) : -value / structure_norm;
  const T by_covariance = 2 * luminance * scale;
  const T pull = 2 * structure * scale, shrink = 2 * value / luminance_norm;
  return {value,
          {pull * mean_y - shrink * mean_x - by_covariance * dy -
               2 * by_variances * dx,
           pull * mean_x - shrink * mean_y - by_covariance * dx -
               2 * by_variances * dy,
           by_variances, by_covariance}};
}

}  // namespace vtadl::ssim
