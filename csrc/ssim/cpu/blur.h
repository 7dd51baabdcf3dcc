// The steps from pixels to windows and back: weighted sums and transpositions.
#pragma once

#include "common/simd_memory.h"
#include "ssim/cpu/tuning.h"
#include "ssim/math.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

// out[i] = Σ_t weights[t]·in[i + t] for i < count, a multiple of kBlurAtOnce,
// where in[i] is the vector at `in + i·stride`. kTaps is the number of taps, or
// 0 where it is not known before the program runs.
template <int kTaps, typename T>
VTADL_HOST_INLINE void blur(const ssim::Taps<T>& taps, const T* in,
                            int64_t stride, int64_t count, T* out,
                            int64_t out_stride) {
  for (int64_t i = 0; i < count; i += kBlurAtOnce) {
    Vector<T> sums[kBlurAtOnce] = {};
    if constexpr (kTaps > 0) {
      constexpr int kCentre = kTaps / 2;
      Vector<T> rows[kTaps + kBlurAtOnce - 1];
      for (int r = 0; r < kTaps + kBlurAtOnce - 1; ++r) {
        rows[r] = load<T>(in + (i + r) * stride);
      }
      for (int o = 0; o < kBlurAtOnce; ++o) {
        sums[o] = taps.weights[kCentre] * rows[o + kCentre];
        for (int t = 0; t < kCentre; ++t) {
          sums[o] += taps.weights[t] * (rows[o + t] + rows[o + kTaps - 1 - t]);
        }
      }
    } else {
      for (int t = 0; t < taps.count; ++t) {
        for (int o = 0; o < kBlurAtOnce; ++o) {
          sums[o] += taps.weights[t] * load<T>(in + (i + o + t) * stride);
        }
      }
    }
    for (int o = 0; o < kBlurAtOnce; ++o) {
      store<T>(out + (i + o) * out_stride, sums[o]);
    }
  }
}

// to[j][i] = from[i][j]; rows and columns are multiples of kLanes<T>.
template <typename T>
VTADL_HOST_INLINE void transpose(const T* from, int64_t stride, int64_t rows,
                                 int64_t columns, T* to, int64_t to_stride) {
  for (int64_t i = 0; i < rows; i += kLanes<T>) {
    for (int64_t j = 0; j < columns; j += kLanes<T>) {
      Vector<T> square[kLanes<T>];
      for (int k = 0; k < kLanes<T>; ++k) {
        square[k] = load<T>(from + (i + k) * stride + j);
      }
      vtadl::transpose<T>(square);
      for (int k = 0; k < kLanes<T>; ++k) {
        store<T>(to + (j + k) * to_stride + i, square[k]);
      }
    }
  }
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
