// The forward pass alone in strips.
#pragma once

#include "ssim/cuda/strips.h"

namespace vtadl::ssim {

// The forward kernel writes the map, sums over its tiles, or both. It moves 2
// elements per pixel, and 112 bytes of shared memory. A quarter of the threads
// that a multiprocessor holds are resident.
template <typename Scalar>
__global__ void __launch_bounds__(kMaxStripThreads,
                                  kStripForwardThreads / kMaxStripThreads)
    strip_forward_kernel(SsimForward p,
                         const __grid_constant__ Taps<float> taps,
                         const __grid_constant__ Constants<float> constants,
                         Tiling tiling, SumsOfTiles sums_of_tiles) {
  const int size = row_size(blockDim.x);
  float4* rows = shared_memory<float4>();  // [2, size]
  for (int64_t round = blockIdx.x; round < tiling.count(); round += gridDim.x) {
    const Tile tile = tiling.tile(round);
    const int height = tiling.height_of(tile), width = tiling.width_of(tile);
    // The last tiles add the errors of the halo; beyond it all pixels are 0.
    const bool is_last_row = tile.top + height == tiling.height;
    const bool is_last_column = tile.left + width == tiling.width;
    const int error_rows = !sums_of_tiles.errors ? 0
                           : is_last_row         ? height + kHalo
                                                 : height;
    const Region<Scalar> region(p, tile.plane, tile.top - p.border_rows,
                                tile.left - p.border_columns, height + kHalo,
                                width + kHalo);
    const Units<float> units = region.units(constants.inverse_range);
    const Pivots<float> pivots = units.pivots();
    float sums[SsimSums::kCount] = {};
    WindowMeans means;
    RowLoader<Scalar> loader(region);
    loader.load(region, 0);
    for (int i = 0; i < height + kHalo; ++i) {
      const PixelRow<float4> row(rows + (i & 1) * size);
      loader.store(units, row);
      if (i < error_rows) loader.add_errors(is_last_column, sums);
      __syncthreads();
      loader.load(region, i + 1);
      means.push(taps, row);
      if (i < kHalo) continue;
      const int64_t map_row = tile.plane * tiling.height + tile.top + i - kHalo;
      VTADL_UNROLL
      for (int k = 0; k < kColumns; ++k) {
        const int j = thread_column(k);
        if (j >= width) break;
        const float value = means.similarity(k, constants, pivots).value;
        sums[SsimSums::kIndex] += value;
        if (p.map) {
          const int64_t to = map_row * tiling.width + tile.left + j;
          static_cast<float*>(p.map)[to] = value;
        }
      }
    }
    if (sums_of_tiles.sums) {
      block_sums(sums, reinterpret_cast<float*>(rows));
      sums[SsimSums::kWindows] = static_cast<float>(height * width);
      sums_of_tiles.store(tiling, tile, sums);
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

// ------------------------------------------------------------------ launcher

template <typename Scalar>
void strip_forward(const SsimForward& p, void* stream) {
  const auto [tiling, threads] = strip_forward_plan(p);
  launch("ssim strip_forward_kernel", strip_forward_kernel<Scalar>,
         {grid_size(tiling), threads, 2 * row_size(threads) * sizeof(float4)},
         stream, p, Taps<float>(p.vertical), Constants<float>(p), tiling,
         SumsOfTiles{p.sums, p.errors, parts_of_plane(p)});
}

}  // namespace vtadl::ssim
