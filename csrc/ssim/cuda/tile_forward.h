// The forward pass in tiles.
#pragma once

#include "ssim/cuda/tiles.h"

namespace vtadl::ssim {

// Adds the errors of the tile's pixels. A pixel belongs to the tile of the
// window whose first pixel it is, or to the last tile.
template <typename Scalar, typename T>
__device__ void add_tile_errors(const Pixels<Scalar>& pixels,
                                const Tiling& tiling, const Tile& tile,
                                const SsimProblem& p,
                                T (&sums)[SsimSums::kCount]) {
  int height = tiling.height_of(tile), width = tiling.width_of(tile);
  if (tile.top + height == tiling.height) height += p.halo_rows();
  if (tile.left + width == tiling.width) width += p.halo_columns();
  for (int item = threadIdx.x; item < height * width; item += kTileThreads) {
    const int i = item / width, j = item % width;
    if (pixels.is_inside(i, j)) {
      add_errors(pixels.raw_x(i, j), pixels.raw_y(i, j), sums);
    }
  }
}

// The forward kernel writes the map, the sums of its tiles, or both. It reads
// the pixels of a tile once for each statistic and tap, mostly from the cache.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kTileThreads, kTileBlocks)
    tile_forward_kernel(SsimForward p, const __grid_constant__ Window<T> window,
                        const __grid_constant__ Constants<T> constants,
                        Tiling tiling) {
  const int halo_rows = p.halo_rows(), halo_columns = p.halo_columns();
  const SumsOfTiles sums_of_tiles{p.sums, p.errors, tiling.parts()};
  T* smem = shared_memory<T>();  // [kTileHeight, kTileWidth + halo_columns]
  for (int64_t round = blockIdx.x; round < tiling.count(); round += gridDim.x) {
    const Tile tile = tiling.tile(round);
    const int height = tiling.height_of(tile), width = tiling.width_of(tile);
    const Pixels<Scalar> pixels(p, constants.inverse_range, tile.plane,
                                tile.top, tile.left, height + halo_rows,
                                width + halo_columns);
    const Windows<T> windows(window, pixels, height, width, smem,
                             smem + kTileHeight * (kTileWidth + halo_columns));
    T sums[SsimSums::kCount] = {};
    for (int at = threadIdx.x; at < height * width; at += kTileThreads) {
      const bool counts = windows.counts(at);
      const T value =
          counts ? windows.similarity(at, constants, pixels.pivots()).value
                 : T(0);
      sums[SsimSums::kIndex] += value;
      sums[SsimSums::kWindows] += counts;
      const int64_t row = tile.plane * tiling.height + tile.top + at / width;
      if (p.map) {
        static_cast<T*>(p.map)[row * tiling.width + tile.left + at % width] =
            value;
      }
    }
    if (sums_of_tiles.errors) add_tile_errors(pixels, tiling, tile, p, sums);
    if (sums_of_tiles.sums) {
      block_sums(sums, smem);
      sums_of_tiles.store(tiling, tile, sums);
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

template <typename Scalar>
void tile_forward(const SsimForward& p, void* stream) {
  using T = Accumulate<Scalar>;
  const Tiling tiling = tile_forward_tiling(p);
  launch("ssim tile_forward_kernel", tile_forward_kernel<Scalar>,
         {grid_size(tiling), kTileThreads, tile_forward_smem<T>(p)}, stream, p,
         Window<T>(p), Constants<T>(p), tiling);
}

}  // namespace vtadl::ssim
