// Vectors, and elementary functions of them, which have no branch, no table in
// memory and no call.
//
// The functions take a float or a double, on the host also a vector of either.
// Their results are within 2 ULP, for subnormal arguments and results, too.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "common/host_device.h"

#if defined(__x86_64__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

namespace vtadl {

// Scalar is the type of an element of T. Int holds integers of the same size
// and number.
template <typename T>
struct SimdTraits;

template <>
struct SimdTraits<float> {
  using Scalar = float;
  using Int = std::int32_t;
};
template <>
struct SimdTraits<double> {
  using Scalar = double;
  using Int = std::int64_t;
};

template <typename T>
using ScalarOf = typename SimdTraits<T>::Scalar;
template <typename T>
using IntOf = typename SimdTraits<T>::Int;

#ifndef __CUDACC__

// Vectors are as wide as the registers of the instruction set that the source
// is compiled for.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <typename T>
using Vector = typename VectorOf<T>::type;
template <typename T>
constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <>
struct SimdTraits<Vector<float>> {
  using Scalar = float;
  using Int = Vector<std::int32_t>;
};
template <>
struct SimdTraits<Vector<double>> {
  using Scalar = double;
  using Int = Vector<std::int64_t>;
};

#endif

template <typename T>
VTADL_INLINE T broadcast(ScalarOf<T> value) {
  return value - T{};  // not value + 0, which loses the sign of -0
}

template <typename T>
VTADL_INLINE T from_bits(IntOf<T> bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename T>
VTADL_INLINE IntOf<T> bits_of(T value) {
  IntOf<T> bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Takes each element from one of two values. The mask comes from a comparison.
template <typename Mask, typename T>
VTADL_INLINE T select(Mask mask, T where_true, T where_false) {
  return mask ? where_true : where_false;
}

// The larger of two elements; a where either is not a number.
template <typename T>
VTADL_INLINE T maximum(T a, T b) {
#if defined(__AVX512F__) && !defined(__CUDACC__)
  if constexpr (std::is_same_v<T, Vector<float>>) {
    return (T)_mm512_maskz_max_ps(-1, (__m512)b, (__m512)a);
  }
#endif
  return select(a < b, b, a);
}

// The smaller of two elements; a where either is not a number.
template <typename T>
VTADL_INLINE T minimum(T a, T b) {
#if defined(__AVX512F__) && !defined(__CUDACC__)
  if constexpr (std::is_same_v<T, Vector<float>>) {
    return (T)_mm512_maskz_min_ps(-1, (__m512)b, (__m512)a);
  }
#endif
  return select(b < a, b, a);
}

// The mask of infinite elements.
template <typename T>
VTADL_INLINE auto is_infinite(T x) {
  constexpr auto kInfinity = static_cast<ScalarOf<T>>(INFINITY);
  return (x == kInfinity) | (x == -kInfinity);
}

// The layout of numbers, and log 2 in two parts. The first part has so few
// digits that its multiples are exact.
template <typename Scalar>
struct FloatFormat;

template <>
struct FloatFormat<float> {
  static constexpr int kMantissaBits = 23, kBias = 127;
  static constexpr float kMaxExp = 89.0f, kMinExp = -104.0f;
  static constexpr float kLog2High = 0.693359375f, kLog2Low = -2.12194440e-4f;
};
template <>
struct FloatFormat<double> {
  static constexpr int kMantissaBits = 52, kBias = 1023;
  static constexpr double kMaxExp = 710.0, kMinExp = -746.0;
  static constexpr double kLog2High = 6.93147180369123816490e-01,
                          kLog2Low = 1.90821492927058770002e-10;
};

// c0 + c1·x + c2·x² + …
template <typename T>
VTADL_INLINE T polynomial(T, double c0) {
  return broadcast<T>(static_cast<ScalarOf<T>>(c0));
}
template <typename T, typename... More>
VTADL_INLINE T polynomial(T x, double c0, More... more) {
  return polynomial(x, more...) * x + static_cast<ScalarOf<T>>(c0);
}

// x · 2^n, where n is an integer of the range that exp needs.
template <typename T>
VTADL_HOST_INLINE T scale_by_power_of_2(T x, T n) {
  using S = ScalarOf<T>;
  using F = FloatFormat<S>;
  // The sum with kShift has the integer in its last bits, whose unit is 1.
  constexpr S kShift = S(1.5) * S(std::int64_t(1) << F::kMantissaBits);
  const IntOf<T> power = bits_of<T>(n + kShift) - bits_of<S>(kShift);
  // The power is split into two factors, because n itself may lie outside the
  // exponents of the format.
  const IntOf<T> half = power >> 1;
  return x * from_bits<T>((half + F::kBias) << F::kMantissaBits) *
         from_bits<T>((power - half + F::kBias) << F::kMantissaBits);
}

#if defined(__AVX512F__) && !defined(__CUDACC__)
// exp(x), where x = n·log 2 + r, n is a multiple of 1/16 and |r| <= log(2)/32.
// Four terms are enough for exp(r) (1e-9), and 2^n is a power of 2 times a
// number of a table. Where x is too large for that, r has no meaning, but the
// power of 2 alone is 0 or infinite.
VTADL_HOST_INLINE Vector<float> exp_by_table(Vector<float> x) {
  using V = Vector<float>;
  using F = FloatFormat<float>;
  // The table holds 2^(i/16)·c, and p is exp(r)/c - 1. With this c the table is
  // exact to a fourth of what rounding could cost.
  constexpr V kTable = {0.988596976f, 1.03236592f, 1.07807267f, 1.12580299f,
                        1.17564654f,  1.2276969f,  1.28205168f, 1.33881295f,
                        1.39808726f,  1.45998585f, 1.52462494f, 1.59212589f,
                        1.6626153f,   1.73622561f, 1.81309485f, 1.89336741f};
  constexpr float kRound = 1.5f * (1 << (F::kMantissaBits - 4));
  constexpr int kSmallerMagnitude = 2;
  const V shifted = x * 1.44269504088896340736f + kRound;
  const V n = shifted - kRound;
  const V rest = (x - n * F::kLog2High) - n * F::kLog2Low;
  const V r = (V)_mm512_maskz_range_ps(-1, (__m512)rest, _mm512_set1_ps(1),
                                       kSmallerMagnitude);
  const V p = polynomial(r, 0.011534548, 1.0115346, 0.50578705, 0.16858514);
  // The last four bits of `shifted` choose from the table.
  const V power =
      (V)_mm512_maskz_permutexvar_ps(-1, (__m512i)shifted, (__m512)kTable);
  const V result = power * p + power;
  return (V)_mm512_maskz_scalef_ps(-1, (__m512)result, (__m512)n);
}
#endif

// exp(x), where x = n·log 2 + r and |r| <= log(2)/2. exp(r) is a polynomial:
// for floats the one of least relative error (2e-9), for doubles the Taylor
// series.
template <typename T>
VTADL_HOST_INLINE T vector_exp(T x) {
  using S = ScalarOf<T>;
  using F = FloatFormat<S>;
#if defined(__AVX512F__) && !defined(__CUDACC__)
  if constexpr (std::is_same_v<T, Vector<float>>) return exp_by_table(x);
#endif
  constexpr S kRound = S(1.5) * S(std::int64_t(1) << F::kMantissaBits);
  x = maximum(minimum(x, broadcast<T>(F::kMaxExp)), broadcast<T>(F::kMinExp));
  const T n = (x * S(1.44269504088896340736) + kRound) - kRound;
  const T r = (x - n * F::kLog2High) - n * F::kLog2Low;
  if constexpr (sizeof(S) == 4) {
    const T p = polynomial(r, 0.49999994, 0.16666431, 0.041668005, 0.0083741957,
                           0.0013843607);
    return scale_by_power_of_2((r * r * p + r) + S(1), n);
  } else {
    const T p = polynomial(r, 1, 1, 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720,
                           1. / 5040, 1. / 40320, 1. / 362880, 1. / 3628800,
                           1. / 39916800, 1. / 479001600, 1. / 6227020800);
    return scale_by_power_of_2(p, n);
  }
}

// log(x) + correction, for normal numbers x > 0 and a small correction. With
// x = 2^n·(1 + f) and 1 + f in [√½, √2), log(1 + f) is 2·artanh(s), a series,
// where s = f / (2 + f).
template <typename T>
VTADL_HOST_INLINE T log_of_normal(T x, T correction) {
  using S = ScalarOf<T>;
  using F = FloatFormat<S>;
  constexpr S kLeast = S(0.70710678118654752440);
  constexpr IntOf<S> kMantissa = (IntOf<S>(1) << F::kMantissaBits) - 1;
  const IntOf<T> bits = bits_of<T>(x) - bits_of<S>(kLeast);
  const IntOf<T> n = bits >> F::kMantissaBits;
  const T f = from_bits<T>((bits & kMantissa) + bits_of<S>(kLeast)) - S(1);
  const T s = f / (f + S(2)), z = s * s, half_square = S(0.5) * f * f;
  T series, power;
  if constexpr (sizeof(S) == 4) {
    series = z * polynomial(z, 2. / 3, 2. / 5, 2. / 7, 2. / 9, 2. / 11);
  } else {
    series = z * polynomial(z, 2. / 3, 2. / 5, 2. / 7, 2. / 9, 2. / 11, 2. / 13,
                            2. / 15, 2. / 17, 2. / 19, 2. / 21, 2. / 23);
  }
  if constexpr (sizeof(T) == sizeof(S)) {
    power = static_cast<T>(n);
  } else {
    power = __builtin_convertvector(n, T);
  }
  const T small =
      s * (half_square + series) + (power * F::kLog2Low + correction);
  return power * F::kLog2High - ((half_square - small) - f);
}

template <typename T>
VTADL_HOST_INLINE T vector_log(T x) {
  using S = ScalarOf<T>;
  using Limits = std::numeric_limits<S>;
  constexpr int kShift = FloatFormat<S>::kMantissaBits + 1;
  const auto subnormal = x < Limits::min();
  const T normal = select(subnormal, x * S(std::int64_t(1) << kShift), x);
  const T shift =
      select(subnormal, broadcast<T>(S(-kShift * 0.69314718055994530942)), T{});
  const T result = log_of_normal(normal, shift);
  // The logarithms of infinity and NaN are infinity and NaN.
  const T positive = select(x < Limits::infinity(), result, x);
  const T not_positive = select(x == 0, broadcast<T>(-Limits::infinity()),
                                broadcast<T>(Limits::quiet_NaN()));
  return select(x <= 0, not_positive, positive);
}

// log(1 + x) for x in [0, 1].
template <typename T>
VTADL_HOST_INLINE T vector_log1p(T x) {
  using S = ScalarOf<T>;
  const T sum = x + S(1);
  return log_of_normal(sum, (x - (sum - S(1))) / sum);
}

template <typename T>
VTADL_INLINE T vector_sqrt(T x) {
  if constexpr (sizeof(T) == sizeof(ScalarOf<T>)) {
    return std::sqrt(x);
  } else {
#if defined(__CUDACC__)
    return x;
#elif defined(__AVX512F__)
    if constexpr (sizeof(ScalarOf<T>) == 4)
      return (T)_mm512_maskz_sqrt_ps(-1, (__m512)x);
    if constexpr (sizeof(ScalarOf<T>) == 8)
      return (T)_mm512_maskz_sqrt_pd(-1, (__m512d)x);
#elif defined(__AVX2__)
    if constexpr (sizeof(ScalarOf<T>) == 4) return (T)_mm256_sqrt_ps((__m256)x);
    if constexpr (sizeof(ScalarOf<T>) == 8)
      return (T)_mm256_sqrt_pd((__m256d)x);
#else
    T result{};
    for (unsigned i = 0; i < sizeof(T) / sizeof(ScalarOf<T>); ++i) {
      result[i] = std::sqrt(x[i]);
    }
    return result;
#endif
  }
}

}  // namespace vtadl
