// The forward pass alone in strips.
#pragma once

#include "ssim/ssim_cuda_strips.h"

namespace vtadl::ssim {

constexpr int kForwardBlocks = 4;  // of a multiprocessor: its registers suffice

// The map, sums over its tiles, or both. Moves 2 elements per pixel, and of
// shared memory 56 bytes; a quarter of the threads that a multiprocessor holds.
template <typename Scalar>
__global__ void __launch_bounds__(kMaxThreads, kForwardBlocks)
    strip_forward_kernel(SsimForward p,
                         const __grid_constant__ Window<float> window,
                         Tiling tiling, int64_t parts) {
  const int room = row_room(blockDim.x);
  float* rows = shared_memory<float>();  // [2, kImages, room]
  for (int64_t round = blockIdx.x; round < tiling.count(); round += gridDim.x) {
    const Tile tile = tiling.tile(round);
    const int height = tiling.height_of(tile), width = tiling.width_of(tile);
    const bool is_last_row = tile.top + height == tiling.height;
    const bool is_last_column = tile.left + width == tiling.width;
    const Region<Scalar> region(p, tile.plane, tile.top - p.border,
                                tile.left - p.border, height + kHalo,
                                width + kHalo);
    const Units<float> units = region.units(p);
    const Constants<float> constants = units.constants(p);
    float sums[SsimSums::kCount] = {};
    WindowMeans windows;
    RowShare<Scalar> share(region, 0);
    share.load(region, 0);
    for (int i = 0; i < height + kHalo; ++i) {
      float* row = rows + i % 2 * kImages * room;
      share.store(units, row);
      if (p.errors && (i < height || is_last_row)) {
        share.add_errors(is_last_column ? room : width, sums);
      }
      __syncthreads();
      share.load(region, i + 1);
      windows.push(window, row);
      if (i < kHalo) continue;
      const int64_t row_of_map =
          tile.plane * tiling.height + tile.top + i - kHalo;
      VTADL_UNROLL
      for (int k = 0; k < kColumns; ++k) {
        const int j = own_column(k);
        if (j >= width) break;
        const float value = windows.similarity(k, constants).value;
        sums[SsimSums::kIndex] += value;
        if (p.map) {
          static_cast<float*>(
              p.map)[row_of_map * tiling.width + tile.left + j] = value;
        }
      }
    }
    if (p.sums) {
      block_sums(sums, rows);
      sums[SsimSums::kWindows] = static_cast<float>(height * width);
      store_sums(p.sums, parts, tiling, tile, sums);
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

// ------------------------------------------------------------------ launcher

inline int forward_threads(const SsimProblem& p) {
  return strip_threads(p.map_width(), 0);
}

inline Tiling forward_tiling(const SsimProblem& p) {
  return strip_tiling(p.planes(), p.map_height(), p.map_width(),
                      forward_threads(p) * kColumns, kForwardBlocks, kHalo);
}

template <typename Scalar>
void strip_forward(const SsimForward& p, int64_t parts, void* stream) {
  const Tiling tiling = forward_tiling(p);
  const int threads = forward_threads(p);
  launch("ssim strip_forward_kernel", strip_forward_kernel<Scalar>,
         {grid_size(tiling), threads,
          2 * kImages * row_room(threads) * sizeof(float)},
         stream, p, Window<float>(p), tiling, parts);
}

}  // namespace vtadl::ssim
