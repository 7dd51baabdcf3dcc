// From the sums of all tiles to one number, in one launch: of small images the
// launches take longest.
#pragma once

#include "ssim/cuda/device.h"

namespace vtadl::ssim {

constexpr int kTotalThreads = 512;

// One block, which reads 4 numbers for each tile and adds them in an order of
// its own.
template <typename T>
__global__ void __launch_bounds__(kTotalThreads) total_kernel(SsimTotal p) {
  __shared__ double room[SsimSums::kCount * kTotalThreads / kWarp];
  const T* of_parts = static_cast<const T*>(p.of_parts);
  double sums[SsimSums::kCount] = {};
  for (int64_t part = threadIdx.x; part < p.parts; part += kTotalThreads) {
    VTADL_UNROLL
    for (int s = 0; s < SsimSums::kCount; ++s) {
      sums[s] += of_parts[part * SsimSums::kCount + s];
    }
  }
  block_sums(sums, room);
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
