// Loads and stores of vectors. Memory may hold numbers of half precision, and
// bytes to load.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/dispatch.h"
#include "common/simd.h"

namespace vtadl {

// A vector of as many numbers of half precision as a vector has floats.
typedef std::uint16_t HalfVector __attribute__((vector_size(kVectorBytes / 2)));

// Loads kLanes<T> elements.
template <typename T, typename Scalar>
VTADL_HOST_INLINE Vector<T> load(const Scalar* from) {
  Vector<T> result{};
  if constexpr (std::is_same_v<Scalar, T>) {
    std::memcpy(&result, from, sizeof result);
  } else if constexpr (std::is_same_v<Scalar, c10::BFloat16>) {
    HalfVector bits;
    std::memcpy(&bits, from, sizeof bits);
#if defined(__AVX512F__)
    const auto wide =
        (Vector<std::int32_t>)_mm512_maskz_cvtepu16_epi32(-1, (__m256i)bits);
#elif defined(__AVX2__)
    const auto wide =
        (Vector<std::int32_t>)_mm256_cvtepu16_epi32((__m128i)bits);
#else
    const auto wide = __builtin_convertvector(bits, Vector<std::int32_t>);
#endif
    result = from_bits<Vector<T>>(wide << 16);
  } else if constexpr (std::is_same_v<Scalar, std::uint8_t>) {
#if defined(__AVX512F__)
    const __m128i bytes =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    result = (Vector<T>)_mm512_maskz_cvtepi32_ps(
        -1, _mm512_maskz_cvtepu8_epi32(-1, bytes));
#elif defined(__AVX2__)
    const __m128i bytes =
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    result = (Vector<T>)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
#else
    for (int i = 0; i < kLanes<T>; ++i) result[i] = static_cast<T>(from[i]);
#endif
  } else {
#if defined(__AVX512F__)
    result = (Vector<T>)_mm512_maskz_cvtph_ps(
        -1, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__)
    result = (Vector<T>)_mm256_cvtph_ps(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
    for (int i = 0; i < kLanes<T>; ++i) result[i] = static_cast<T>(from[i]);
#endif
  }
  return result;
}

// Stores kLanes<T> elements.
template <typename T, typename Scalar>
VTADL_HOST_INLINE void store(Scalar* to, Vector<T> values) {
  if constexpr (std::is_same_v<Scalar, T>) {
    std::memcpy(to, &values, sizeof values);
  } else if constexpr (std::is_same_v<Scalar, c10::BFloat16>) {
    using Int = Vector<std::int32_t>;
    const Int bits = bits_of(values);
    // This rounds to the nearest, ties to even. The sum overflows for NaN
    // alone.
    const Int rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const auto number = values == values;  // NOLINT(misc-redundant-expression)
    const Int result = select(number, rounded, Int{} + std::int32_t(0x7fc0));
    const HalfVector halves = __builtin_convertvector(result, HalfVector);
    std::memcpy(to, &halves, sizeof halves);
  } else {
#if defined(__AVX512F__)
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(to),
        _mm512_maskz_cvtps_ph(-1, (__m512)values, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(to),
        _mm256_cvtps_ph((__m256)values, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int i = 0; i < kLanes<T>; ++i) to[i] = static_cast<Scalar>(values[i]);
#endif
  }
}

// Loads the first `count` lanes; the others are 0.
template <typename T, typename Scalar>
VTADL_HOST_INLINE Vector<T> load(const Scalar* from, int count) {
  if (count == kLanes<T>) return load<T>(from);
#ifdef __AVX512F__
  if constexpr (std::is_same_v<Scalar, float>) {
    return (Vector<T>)_mm512_maskz_loadu_ps((1u << count) - 1, from);
  }
  if constexpr (std::is_same_v<Scalar, double>) {
    return (Vector<T>)_mm512_maskz_loadu_pd((1u << count) - 1, from);
  }
#endif
  alignas(kVectorBytes) unsigned char padded[kLanes<T> * sizeof(Scalar)] = {};
  std::memcpy(padded, from, count * sizeof(Scalar));
  return load<T>(reinterpret_cast<const Scalar*>(padded));
}

// Stores the first `count` lanes.
template <typename T, typename Scalar>
VTADL_HOST_INLINE void store(Scalar* to, Vector<T> values, int count) {
  if (count == kLanes<T>) return store<T>(to, values);
#ifdef __AVX512F__
  if constexpr (std::is_same_v<Scalar, float>) {
    return _mm512_mask_storeu_ps(to, (1u << count) - 1, (__m512)values);
  }
  if constexpr (std::is_same_v<Scalar, double>) {
    return _mm512_mask_storeu_pd(to, (1u << count) - 1, (__m512d)values);
  }
#endif
  alignas(kVectorBytes) unsigned char padded[kLanes<T> * sizeof(Scalar)];
  store<T>(reinterpret_cast<Scalar*>(padded), values);
  std::memcpy(to, padded, count * sizeof(Scalar));
}

// Keeps the first `count` lanes, and puts `other` in the others, whatever they
// held.
template <typename T>
VTADL_HOST_INLINE Vector<T> keep(Vector<T> values, int count, T other = 0) {
  if (count == kLanes<T>) return values;
  IntOf<Vector<T>> lane;
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
  return select(lane < IntOf<T>(count), values, broadcast<Vector<T>>(other));
}

// The elements of a row that make up a vector: `count` consecutive ones.
struct Consecutive {
  std::int64_t first;
  int count;
};

// The elements of a row that make up a vector where their order does not
// matter: one half of those from `first` on that make up two vectors. The
// halves of bfloat16 numbers are the even and the odd ones, which cost less to
// widen.
template <bool kSecond>
struct HalfOfTwo {
  std::int64_t first;
};

template <typename T, typename Scalar>
VTADL_HOST_INLINE Vector<T> load(const Scalar* row, Consecutive elements) {
  return load<T>(row + elements.first, elements.count);
}

template <typename T, typename Scalar, bool kSecond>
VTADL_HOST_INLINE Vector<T> load(const Scalar* row, HalfOfTwo<kSecond> half) {
  if constexpr (std::is_same_v<Scalar, c10::BFloat16>) {
    // Two numbers lie in the place of each float; the second is its upper half.
    Vector<std::int32_t> bits;
    std::memcpy(&bits, row + half.first, sizeof bits);
    return from_bits<Vector<T>>(kSecond ? bits & ~0xffff : bits << 16);
  } else {
    return load<T>(row + half.first + (kSecond ? kLanes<T> : 0));
  }
}

template <typename T>
VTADL_HOST_INLINE Vector<T> keep(Vector<T> values, Consecutive elements) {
  return keep<T>(values, elements.count);
}
template <typename T, bool kSecond>
VTADL_HOST_INLINE Vector<T> keep(Vector<T> values, HalfOfTwo<kSecond>) {
  return values;
}

// Calls body(elements) for the vectors that cover [0, count), in any order.
template <typename T, typename Body>
VTADL_HOST_INLINE void for_each_in_any_order(std::int64_t count,
                                             const Body& body) {
  std::int64_t i = 0;
  for (; i + 2 * kLanes<T> <= count; i += 2 * kLanes<T>) {
    body(HalfOfTwo<false>{i});
    body(HalfOfTwo<true>{i});
  }
  for (; i < count; i += kLanes<T>) {
    const auto some = std::min<std::int64_t>(count - i, kLanes<T>);
    body(Consecutive{i, static_cast<int>(some)});
  }
}

// Calls body(first, lanes) for the vectors that cover [0, count). `lanes` is a
// constant for whole vectors, for which a body that takes `auto` is compiled.
template <typename T, typename Body>
VTADL_HOST_INLINE void for_each_vector(std::int64_t count, const Body& body) {
  constexpr std::integral_constant<int, kLanes<T>> kWhole;
  std::int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) body(i, kWhole);
  if (i < count) body(i, static_cast<int>(count - i));
}

// The lanes of a and b that `indices` name; those of b follow those of a.
template <typename T>
VTADL_HOST_INLINE Vector<T> shuffle(Vector<T> a, Vector<T> b,
                                    IntOf<Vector<T>> indices) {
#ifdef __clang__
  Vector<T> result;
  for (int i = 0; i < kLanes<T>; ++i) {
    const auto from = indices[i];
    result[i] = from < kLanes<T> ? a[from] : b[from - kLanes<T>];
  }
  return result;
#else
  return __builtin_shuffle(a, b, indices);
#endif
}

// Combines all lanes into one number by an operation on vectors.
template <typename T, typename Operation>
VTADL_HOST_INLINE T reduce(Vector<T> values, const Operation& operation) {
  IntOf<Vector<T>> lane;
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
  for (int half = kLanes<T> / 2; half > 0; half /= 2) {
    values = operation(values, shuffle<T>(values, values, lane ^ half));
  }
  return values[0];
}

template <typename T>
VTADL_HOST_INLINE T sum(Vector<T> values) {
  return reduce<T>(values, [](auto a, auto b) { return a + b; });
}

template <typename T>
VTADL_HOST_INLINE T largest(Vector<T> values) {
  return reduce<T>(values, [](auto a, auto b) { return maximum(a, b); });
}

// Swaps lane i of row j with lane j of row i. Each step swaps, in squares of
// 2·kStep rows, the two quarters off the diagonal; the next has larger squares.
template <typename T, int kStep = 1>
VTADL_HOST_INLINE void transpose(Vector<T> (&rows)[kLanes<T>]) {
  constexpr int kCount = kLanes<T>;
  if constexpr (kStep < kCount) {
    IntOf<Vector<T>> low, high;
    for (int i = 0; i < kCount; ++i) {
      low[i] = i & kStep ? kCount + i - kStep : i;
      high[i] = i & kStep ? kCount + i : i + kStep;
    }
    for (int i = 0; i < kCount; ++i) {
      if (i & kStep) continue;
      const Vector<T> a = rows[i], b = rows[i + kStep];
      rows[i] = shuffle<T>(a, b, low);
      rows[i + kStep] = shuffle<T>(a, b, high);
    }
    transpose<T, 2 * kStep>(rows);
  }
}

// The sum over the lanes of each of the vectors.
template <typename T>
VTADL_HOST_INLINE Vector<T> sum_of_each(Vector<T> (&vectors)[kLanes<T>]) {
  transpose<T>(vectors);
  for (int half = kLanes<T> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) vectors[i] += vectors[i + half];
  }
  return vectors[0];
}

}  // namespace vtadl
