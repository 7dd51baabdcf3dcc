// The sums of all parts become one number in one launch: for small images the
// launches take longest.
#pragma once

#include "ssim/cuda/device.h"

namespace vtadl::ssim {

// Adds up the sums of all parts. One block reads 4 numbers for each part and
// adds them in a fixed order.
template <typename T>
__global__ void __launch_bounds__(kTotalThreads) total_kernel(SsimTotal p) {
  __shared__ double smem[SsimSums::kCount * kTotalThreads / kWarp];
  const T* of_parts = static_cast<const T*>(p.of_parts);
  double sums[SsimSums::kCount] = {};
  for (int64_t part = threadIdx.x; part < p.parts; part += kTotalThreads) {
    VTADL_UNROLL
    for (int s = 0; s < SsimSums::kCount; ++s) {
      sums[s] += of_parts[part * SsimSums::kCount + s];
    }
  }
  block_sums(sums, smem);
  if (threadIdx.x > 0) return;
  double total = 0;
  VTADL_UNROLL
  for (int s = 0; s < SsimSums::kCount; ++s) {
    static_cast<T*>(p.sums)[s] = static_cast<T>(sums[s]);
    if (p.weights[s] != 0) total += p.weights[s] * sums[s];
  }
  *static_cast<T*>(p.total) = static_cast<T>(total);
}

}  // namespace vtadl::ssim
