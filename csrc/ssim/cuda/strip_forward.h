// The forward pass alone in strips.
#pragma once

#include "ssim/cuda/strips.h"

namespace vtadl::ssim {

// Threads that the registers of a multiprocessor suffice for.
constexpr int kForwardThreads = 4 * kMaxThreads;

// The map, sums over its tiles, or both. Moves 2 elements per pixel, and of
// shared memory 112 bytes; a quarter of the threads that a multiprocessor
// holds.
template <typename Scalar>
__global__ void __launch_bounds__(kMaxThreads, kForwardThreads / kMaxThreads)
    strip_forward_kernel(SsimForward p,
                         const __grid_constant__ Window<float> window,
                         const __grid_constant__ Scale<float> scale,
                         Tiling tiling, int64_t parts) {
  const int room = row_room(blockDim.x);
  float4* rows = shared_memory<float4>();  // [2, room]
  for (int64_t round = blockIdx.x; round < tiling.count(); round += gridDim.x) {
    const Tile tile = tiling.tile(round);
    const int height = tiling.height_of(tile), width = tiling.width_of(tile);
    // The errors of the halo are the last tile's; beyond it all pixels are 0.
    const bool is_last_row = tile.top + height == tiling.height;
    const bool is_last_column = tile.left + width == tiling.width;
    const int error_rows = !p.errors     ? 0
                           : is_last_row ? height + kHalo
                                         : height;
    const Region<Scalar> region(p, tile.plane, tile.top - p.border,
                                tile.left - p.border, height + kHalo,
                                width + kHalo);
    const Units<float> units = region.units(scale.scale);
    const Constants<float> constants = units.constants(scale);
    float sums[SsimSums::kCount] = {};
    WindowMeans means;
    RowShare<Scalar> share(region);
    share.load(region, 0);
    for (int i = 0; i < height + kHalo; ++i) {
      const PixelRow<float4> row(rows + (i & 1) * room);
      share.store(units, row);
      if (i < error_rows) share.add_errors(is_last_column, sums);
      __syncthreads();
      share.load(region, i + 1);
      means.push(window, row);
      if (i < kHalo) continue;
      const int64_t map_row = tile.plane * tiling.height + tile.top + i - kHalo;
      VTADL_UNROLL
      for (int k = 0; k < kColumns; ++k) {
        const int j = own_column(k);
        if (j >= width) break;
        const float value = means.similarity(k, constants).value;
        sums[SsimSums::kIndex] += value;
        if (p.map) {
          const int64_t to = map_row * tiling.width + tile.left + j;
          static_cast<float*>(p.map)[to] = value;
        }
      }
    }
    if (p.sums) {
      block_sums(sums, reinterpret_cast<float*>(rows));
      sums[SsimSums::kWindows] = static_cast<float>(height * width);
      store_sums(p.sums, parts, tiling, tile, sums);
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

// ------------------------------------------------------------------ launcher

inline StripPlan forward_plan(const SsimProblem& p) {
  return strip_plan(p.planes(), p.map_height(), p.map_width(), kHalo, 0,
                    [](int threads) { return kForwardThreads / threads; });
}

template <typename Scalar>
void strip_forward(const SsimForward& p, int64_t parts, void* stream) {
  const auto [tiling, threads] = forward_plan(p);
  launch("ssim strip_forward_kernel", strip_forward_kernel<Scalar>,
         {grid_size(tiling), threads, 2 * row_room(threads) * sizeof(float4)},
         stream, p, Window<float>(p), Scale<float>(p), tiling, parts);
}

}  // namespace vtadl::ssim
