// The backward pass in tiles.
#pragma once

#include "ssim/cuda/tiles.h"

namespace vtadl::ssim {

// Replaces the statistics of the windows by the derivatives by them, times the
// upstream gradients.
template <typename T>
__device__ void differentiate(const SsimBackward& p, const Windows<T>& windows,
                              const Constants<T>& constants,
                              const Pivots<T>& pivots, int64_t plane,
                              int64_t top, int64_t left, int columns) {
  const int64_t height = p.map_height(), width = p.map_width();
  const T same =
      constants.inverse_range *
      (p.grad_of_map ? T(1) : grad_of_sum<T>(p, plane, SsimSums::kIndex));
  for (int at = threadIdx.x; at < windows.size; at += kTileThreads) {
    const int64_t row = top + at / columns, column = left + at % columns;
    const bool counts = row >= 0 && row < height && column >= 0 &&
                        column < width && windows.counts(at);
    T grad = same;
    if (counts && p.grad_of_map) {
      grad *= static_cast<const T*>(
          p.grad)[(plane * height + row) * width + column];
    }
    if (windows.weights) grad /= windows.weights[at];
    const Similarity<T> index = windows.similarity(at, constants, pivots);
    VTADL_UNROLL
    for (int s = 0; s < kDerivatives; ++s) {
      windows.means[s * windows.size + at] =
          counts ? grad * index.grad[s] : T(0);
    }
  }
  __syncthreads();
}

// The backward kernel makes the gradients of a tile of side × side pixels, at
// most one for each thread. It computes all windows that touch the tile, with
// one pivot, and so needs no other block's results.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kTileThreads, kTileBlocks)
    tile_backward_kernel(SsimBackward p,
                         const __grid_constant__ Window<T> window,
                         const __grid_constant__ Constants<T> constants,
                         Tiling tiling) {
  const int side = tiling.tile_height;
  const int halo_rows = p.halo_rows(), halo_columns = p.halo_columns();
  const int rows = side + halo_rows;  // of the region of windows
  const int columns = side + halo_columns;
  T* smem = shared_memory<T>();  // [rows, columns + halo_columns]
  for (int64_t round = blockIdx.x; round < tiling.count(); round += gridDim.x) {
    const Tile tile = tiling.tile(round);
    const int64_t top = tile.top + p.border_rows - halo_rows;
    const int64_t left = tile.left + p.border_columns - halo_columns;
    const Pixels<Scalar> pixels(p, constants.inverse_range, tile.plane, top,
                                left, rows + halo_rows, columns + halo_columns);
    const Windows<T> windows(window, pixels, rows, columns, smem,
                             smem + rows * (columns + halo_columns));
    differentiate(p, windows, constants, pixels.pivots(), tile.plane, top, left,
                  columns);
    const ErrorGrads<T> errors(p, tile.plane);
    T by[kDerivatives] = {};
    VTADL_UNROLL
    for (int s = 0; s < kDerivatives; ++s) {
      blur(
          window, side, side, smem,
          [&](int i, int j) {
            return windows.means[s * windows.size + i * columns + j];
          },
          [&](int, int, T sum) { by[s] = sum; });
    }
    const int row = threadIdx.x / side, column = threadIdx.x % side;
    if (row < tiling.height_of(tile) && column < tiling.width_of(tile)) {
      const int i = row + halo_rows, j = column + halo_columns;
      const bool valid = pixels.is_valid(i, j);
      const T x = pixels.x(i, j);
      const T difference = pixels.difference(i, j);
      const T of_x = pixel_grad(by[kByX], by[kBySquares],
                                by[kBySquaredDifference], x, difference);
      const T of_y =
          pixel_grad(by[kByY], by[kBySquares], by[kBySquaredDifference],
                     x - difference, -difference);
      const T by_error = errors.of_x(pixels.raw_x(i, j), pixels.raw_y(i, j));
      if (p.grad_x) {
        *Plane<Scalar>(p, p.grad_x, p.grad_x_strides, tile.plane)
             .at(tile.top + row, tile.left + column) =
            static_cast<Scalar>((valid ? of_x : T(0)) + by_error);
      }
      if (p.grad_y) {
        *Plane<Scalar>(p, p.grad_y, p.grad_y_strides, tile.plane)
             .at(tile.top + row, tile.left + column) =
            static_cast<Scalar>((valid ? of_y : T(0)) - by_error);
      }
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

template <typename Scalar>
void tile_backward(const SsimBackward& p, void* stream) {
  using T = Accumulate<Scalar>;
  const Tiling tiling = tile_backward_tiling<T>(p);
  launch("ssim tile_backward_kernel", tile_backward_kernel<Scalar>,
         {grid_size(tiling), kTileThreads,
          tile_backward_smem<T>(p, tiling.tile_height)},
         stream, p, Window<T>(p), Constants<T>(p), tiling);
}

}  // namespace vtadl::ssim
