// Elementary functions that compilers vectorise: no branch, no table, no call.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/host_device.h"

namespace vtadl {

VTADL_INLINE float float_from_bits(std::int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

VTADL_INLINE std::int32_t bits_of(float value) {
  std::int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// exp within 2 ULP over the whole range, subnormal results included.
// x = n·log 2 + r with |r| <= log(2)/2; exp(r) by its Taylor series.
VTADL_INLINE float vector_exp(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLog2High = 0.693359375f, kLog2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: adding it rounds
  x = x > 89.0f ? 89.0f : x;             // not fmin: NaN has to pass
  x = x < -104.0f ? -104.0f : x;
  const float shifted = x * kLog2E + kRound;
  const std::int32_t n = bits_of(shifted) - bits_of(kRound);
  const float rounded = shifted - kRound;
  const float r = (x - rounded * kLog2High) - rounded * kLog2Low;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // 2^n in two factors: n itself may lie outside the exponents of a float.
  const std::int32_t half = n >> 1;
  return p * float_from_bits((half + 127) << 23) *
         float_from_bits((n - half + 127) << 23);
}

VTADL_INLINE double vector_exp(double x) { return std::exp(x); }

}  // namespace vtadl
