// The formulas of SSIM, for host and device.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/simd.h"
#include "ssim/ssim.h"

namespace vtadl::ssim {

// In the functions below T is a float or a double, on the host also a vector.
// Pixels are in units of the data range, less a pivot taken near the window,
// which keeps the variances from cancelling: x' = x - px, y' = y - py. The
// third term of a pixel is d = x' - y', made of x - y and px - py, so that
// near-equal images lose no digits.

// The weights of a window along one axis, in the type of the sums.
template <typename T>
struct Taps {
  int count;
  T weights[SsimTaps::kMost] = {};

  // Rounded weights may have the sum 1 + δ. A mean would be too large by δ, its
  // square by 2δ, and a variance would keep δ times that square. So what is
  // missing goes to the centre and, where its ULP is too large, to the pairs
  // around it, until the sum is 1 but for 1e-8. Far smaller weights keep their
  // digits, because under a mask they may be all that counts.
  VTADL_HOST_INLINE explicit Taps(const SsimTaps& taps) : count(taps.count) {
    double missing = 1;
    for (int t = 0; t < count; ++t) {
      weights[t] = static_cast<T>(taps.weights[t]);
      missing -= weights[t];
    }
    const int centre = count / 2;
    for (int i = 0; i <= centre + 1; ++i) {
      const int distance = i % (centre + 1);  // the centre is also the last
      const int pixels = distance > 0 ? 2 : 1;
      const T before = weights[centre - distance];
      const bool is_small = before < T(1e-3) * weights[centre];
      if (is_small || (missing < 1e-8 && missing > -1e-8)) continue;
      const T after = static_cast<T>(before + missing / pixels);
      weights[centre - distance] = weights[centre + distance] = after;
      missing -= pixels * (static_cast<double>(after) - before);
    }
  }
};

// The weights of a window, whose products are those of its pixels.
template <typename T>
struct Window {
  Taps<T> vertical, horizontal;

  VTADL_HOST_INLINE explicit Window(const SsimProblem& p)
      : vertical(p.vertical), horizontal(p.horizontal) {}
};

// The statistics of a window are E[x'], E[d], E[x'² + y'²] and E[d²]. Under a
// mask E is the mean over valid pixels.
constexpr int kMean = 0, kMeanDifference = 1;
constexpr int kSquares = 2, kSquaredDifference = 3;
constexpr int kStatistics = 4;

// The gradients of pixels are made of the index's derivatives by E[x'] and
// E[y'], for fixed squares, and by the squares. Gradients of x alone need all
// but the last.
constexpr int kByX = 0, kBySquares = 1, kBySquaredDifference = 2, kByY = 3;
constexpr int kDerivatives = 4;

// The pivot of a region is the mean of the pixels on a grid of 4 x 4 that are
// valid numbers, without the quarters of the smallest and of the largest: a few
// pixels that are far from the others, dead ones perhaps, must not take the
// digits of those around them. Where the grid has none, under a mask, the pivot
// is the mean of all valid pixels; else it is 0.
constexpr int kPivotPixels = 16;

// How many of the smallest pixels, and of the largest, the pivot leaves out.
VTADL_INLINE int outermost(int count) { return count / 4; }

// The row and the column of a pixel of the grid, in a region of this size.
VTADL_INLINE std::int64_t pivot_row(int which, std::int64_t height) {
  return (2 * (which / 4) + 1) * height / 8;
}

VTADL_INLINE std::int64_t pivot_column(int which, std::int64_t width) {
  return (2 * (which % 4) + 1) * width / 8;
}

// A window whose valid pixels weigh less than this counts as one without a
// valid pixel. Float32 holds smaller weights, but not their products.
constexpr double kLeastWeight = 1e-12;

// The pivots of a region, in units of the data range.
template <typename S>
struct Pivots {
  S x, difference;  // px, px - py
};

// The constants of a problem. The host computes them, because a GPU is slow
// with doubles.
template <typename S>
struct Constants {
  S inverse_range;            // 1 / data_range
  S c1, c2;                   // k1², k2²
  bool luminance, structure;  // the factors of the component

  VTADL_HOST_INLINE explicit Constants(const SsimProblem& p)
      : inverse_range(static_cast<S>(1 / p.data_range)),
        c1(static_cast<S>(p.k1 * p.k1)),
        c2(static_cast<S>(p.k2 * p.k2)),
        luminance(p.component != SsimComponent::kContrastStructure),
        structure(p.component != SsimComponent::kLuminance) {}
};

// The way from the pixels of a region to x' and d. The pivots are in the
// images' own units.
template <typename S>
struct Units {
  S inverse_range, pivot_x, pivot_difference;

  template <typename T>
  VTADL_INLINE T x(T x) const {
    return (x - pivot_x) * inverse_range;
  }
  template <typename T>
  VTADL_INLINE T difference(T x, T y) const {
    return (x - y - pivot_difference) * inverse_range;
  }
  VTADL_INLINE Pivots<S> pivots() const {
    return {pivot_x * inverse_range, pivot_difference * inverse_range};
  }
};

// 1 / x. On the GPU that of a float is good to 1 ULP, and takes no branch.
template <typename T>
VTADL_INLINE T reciprocal(T x) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == sizeof(float)) return __fdividef(1.0f, x);
#endif
  return ScalarOf<T>(1) / x;
}

// The index of a window, or a factor of it, and its derivatives.
template <typename T>
struct Similarity {
  T value;
  T grad[kDerivatives];
};

// The index of a window with these statistics. Its factors are computed as 1
// less their losses, which have all their digits where images are near-equal,
// and rounding takes neither factor beyond 1. Far from 1 the usual form of the
// luminance has more digits.
template <typename T>
VTADL_INLINE Similarity<T> similarity(const T (&statistics)[kStatistics],
                                      const Constants<ScalarOf<T>>& c,
                                      const Pivots<ScalarOf<T>>& pivots) {
  using S = ScalarOf<T>;
  const T x = statistics[kMean], difference = statistics[kMeanDifference];
  const T y = x - difference;
  const T raw_variances = statistics[kSquares] - x * x - y * y;
  const T raw_variance_of_difference =
      statistics[kSquaredDifference] - difference * difference;
  const auto is_flat = raw_variances < S(0);
  const auto is_equal = raw_variance_of_difference < S(0);
  T structure_norm = select(is_flat, T{}, raw_variances) + c.c2;
  T variance_of_difference = select(is_equal, T{}, raw_variance_of_difference);
  if (!c.structure) {
    structure_norm = broadcast<T>(1);
    variance_of_difference = T{};
  }

  const T mean_x = x + pivots.x;
  T difference_of_means = difference + pivots.difference;
  const T mean_y = mean_x - difference_of_means;
  T luminance_norm = mean_x * mean_x + mean_y * mean_y + c.c1;
  if (!c.luminance) {
    luminance_norm = broadcast<T>(1);
    difference_of_means = T{};
  }
  const T inverse_norms = reciprocal<T>(luminance_norm * structure_norm);
  const T per_luminance = structure_norm * inverse_norms;
  const T per_structure = luminance_norm * inverse_norms;
  const T luminance_loss =
      difference_of_means * difference_of_means * per_luminance;
  const T structure_loss = variance_of_difference * per_structure;
  const T structure =
      S(1) - select(structure_loss > S(2), broadcast<T>(2), structure_loss);
  T luminance = S(1) - luminance_loss;
  if (c.luminance) {
    luminance =
        select(luminance_loss > S(0.5),
               (S(2) * mean_x * mean_y + c.c1) * per_luminance, luminance);
  }

  const T by_loss = c.structure ? luminance * per_structure : T{};
  const T by_squares = select(is_flat, T{}, by_loss * structure_loss);
  const T by_squared_difference = select(is_equal, T{}, -by_loss);
  const T by_luminance = S(2) * structure * per_luminance;
  const T by_luminance_norm = c.luminance ? by_luminance * luminance_loss : T{};
  const T by_difference = by_luminance * difference_of_means +
                          S(2) * by_squared_difference * difference;
  return {luminance * structure,
          {by_luminance_norm * mean_x - S(2) * by_squares * x - by_difference,
           by_squares, by_squared_difference,
           by_luminance_norm * mean_y - S(2) * by_squares * y + by_difference}};
}

// The gradient of a pixel, from the sums of the derivatives over the windows
// that hold it. For a pixel of x, `own` is x' and `difference` is d; for one of
// y, they are y' and -d. The derivative by a mean, once the pivots have grown
// by `own` and `difference`, is the same expression.
template <typename T, typename U>
VTADL_INLINE T pixel_grad(T by_mean, T by_squares, T by_squared_difference,
                          U own, U difference) {
  return by_mean + ScalarOf<T>(2) *
                       (own * by_squares + difference * by_squared_difference);
}

}  // namespace vtadl::ssim
