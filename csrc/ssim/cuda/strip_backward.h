// The backward pass in strips, which also makes the sums of the forward pass
// where they are wanted.
#pragma once

#include "ssim/cuda/strips.h"

namespace vtadl::ssim {

// How many derivatives of a window are spread to its pixels, through shared
// memory. The one by the mean of y is needed only for gradients of both images.
template <bool kBoth>
constexpr int kSpread = kBoth ? kDerivatives : kDerivatives - 1;

// The windows of a thread's columns, row after row: their upstream gradients,
// and the derivatives by their statistics.
class ThreadWindows {
 public:
  const Inside inside;  // the region's windows that are in the map
  const Inside owned;   // the windows whose values the tile sums

  __device__ ThreadWindows(const SsimBackward& p, const Tile& tile, int rows,
                           int columns, float inverse_range)
      : inside(tile.top - kHalo + p.border_rows,
               tile.left - kHalo + p.border_columns, rows, columns,
               p.map_height(), p.map_width()),
        owned(inside.without_halo(tile)),
        is_map_(p.grad_of_map),
        map_width_(p.map_width()),
        grad_(inverse_range) {
    VTADL_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      is_inside_[k] = inside.holds_column(thread_column(k));
      is_owned_[k] = owned.holds_column(thread_column(k));
    }
    if (is_map_) {
      const int64_t row = tile.plane * p.map_height() + tile.top - kHalo +
                          p.border_rows + inside.row_begin;
      from_ = static_cast<const float*>(p.grad) + row * map_width_ + tile.left -
              kHalo + p.border_columns + thread_column(0);
    } else {
      grad_ *= grad_of_sum<float>(p, tile.plane, SsimSums::kIndex);
    }
  }

  // Loads the upstream gradients of row i. The first call names the first row
  // in the map, each other the next row.
  __device__ void load_grads(int i) {
    const bool row_is_inside = inside.holds_row(i);
    VTADL_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      grads_[k] = grad_;
      if (row_is_inside && is_inside_[k] && is_map_) grads_[k] *= from_[k];
    }
    if (is_map_) from_ += map_width_;
  }

  // Stores the derivatives of row i, whose upstream gradients and means came
  // last, to shared memory. Returns the sum of the values that the tile owns.
  template <bool kBoth>
  __device__ float differentiate(int i, const WindowMeans& windows,
                                 const Constants<float>& constants,
                                 const Pivots<float>& pivots,
                                 float* rows) const {
    const bool row_is_inside = inside.holds_row(i);
    float sum = 0, by[kSpread<kBoth>][kColumns];
    VTADL_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      const Similarity<float> index = windows.similarity(k, constants, pivots);
      VTADL_UNROLL
      for (int s = 0; s < kSpread<kBoth>; ++s) {
        by[s][k] =
            row_is_inside && is_inside_[k] ? grads_[k] * index.grad[s] : 0.0f;
      }
      sum += is_owned_[k] ? index.value : 0.0f;
    }
    VTADL_UNROLL
    for (int s = 0; s < kSpread<kBoth>; ++s) {
      store_pair(rows + s * row_size(blockDim.x), by[s][0], by[s][1]);
    }
    return owned.holds_row(i) ? sum : 0.0f;
  }

 private:
  const bool is_map_;  // else all windows have the same upstream gradient
  const int64_t map_width_;
  float grad_;  // what all windows have in common, in units of the data range
  const float* from_ = nullptr;
  bool is_inside_[kColumns], is_owned_[kColumns];
  float grads_[kColumns];  // upstream, of the row that was loaded last
};

// The sums of derivatives over the windows that hold the pixels of a thread's
// columns. push() takes one row of derivatives after the other.
template <bool kBoth>
struct PixelSums {
  RunningSum running[kSpread<kBoth>][kColumns] = {};
  float sums[kSpread<kBoth>][kColumns];

  __device__ void push(const Taps<float>& taps, const float* rows) {
    VTADL_UNROLL
    for (int s = 0; s < kSpread<kBoth>; ++s) {
      float grads[kRowPixels], of_row[kColumns] = {};
      load_row(rows + s * row_size(blockDim.x), grads);
      VTADL_UNROLL
      for (int j = 0; j < kRowPixels; ++j) {
        add_weighted(taps, j, grads[j], of_row);
      }
      VTADL_UNROLL
      for (int k = 0; k < kColumns; ++k) {
        sums[s][k] = running[s][k].push(taps, of_row[k]);
      }
    }
  }

  // The gradients of the pixels in the row of windows that came last.
  __device__ float of_x(int k, float x, float difference) const {
    return pixel_grad(sums[kByX][k], sums[kBySquares][k],
                      sums[kBySquaredDifference][k], x, difference);
  }
  __device__ float of_y(int k, float x, float difference) const {
    return pixel_grad(sums[kByY][k], sums[kBySquares][k],
                      sums[kBySquaredDifference][k], x - difference,
                      -difference);
  }
};

// The pixels of a thread's columns and their gradients, row after row when the
// last window that holds them is known. If only one image needs gradients, it
// is x.
template <typename Scalar, bool kBoth>
class ThreadPixels {
 public:
  __device__ ThreadPixels(const SsimBackward& p, const Region<Scalar>& region,
                          const Tile& tile, int width)
      : grad_x_(p, p.grad_x, p.grad_x_strides, tile.plane),
        grad_y_(p, kBoth ? p.grad_y : p.grad_x,
                kBoth ? p.grad_y_strides : p.grad_x_strides, tile.plane),
        errors_(p, tile.plane),
        width_(width),
        from_x_(region.x.at(tile.top, tile.left + thread_column(0))),
        from_y_(region.y.at(tile.top, tile.left + thread_column(0))),
        to_x_(grad_x_.at(tile.top, tile.left + thread_column(0))),
        to_y_(grad_y_.at(tile.top, tile.left + thread_column(0))) {}

  // Loads the next row.
  __device__ void load_next(const Region<Scalar>& region) {
    VTADL_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      const bool is_own = thread_column(k) < width_;
      const Scalar zero = static_cast<Scalar>(0.0f);
      x_[k] = is_own ? from_x_[k * region.x.column_stride] : zero;
      y_[k] = is_own ? from_y_[k * region.y.column_stride] : zero;
    }
    from_x_ += region.x.row_stride;
    from_y_ += region.y.row_stride;
  }

  // Stores the gradients of the row that was loaded last, and adds its errors.
  __device__ void store_grads(const Units<float>& units,
                              const PixelSums<kBoth>& by,
                              float (&sums)[SsimSums::kCount]) {
    VTADL_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      const float x = static_cast<float>(x_[k]), y = static_cast<float>(y_[k]);
      const float by_error = errors_.of_x(x, y);
      add_errors(x, y, sums);
      if (thread_column(k) >= width_) continue;
      const float own = units.x(x), difference = units.difference(x, y);
      to_x_[k * grad_x_.column_stride] =
          static_cast<Scalar>(by.of_x(k, own, difference) + by_error);
      if constexpr (kBoth) {
        to_y_[k * grad_y_.column_stride] =
            static_cast<Scalar>(by.of_y(k, own, difference) - by_error);
      }
    }
    to_x_ += grad_x_.row_stride;
    to_y_ += grad_y_.row_stride;
  }

 private:
  const Plane<Scalar> grad_x_, grad_y_;
  const ErrorGrads<float> errors_;
  const int width_;
  Scalar x_[kColumns], y_[kColumns];
  const Scalar* from_x_;
  const Scalar* from_y_;
  Scalar* to_x_;
  Scalar* to_y_;
};

// The backward kernel moves 3 elements per pixel, or 4 for gradients of both
// images, the upstream gradient of each window if they differ, and 140 or 168
// bytes of shared memory. An eighth of the threads that a multiprocessor holds
// are resident, with some 250 registers each.
template <typename Scalar, bool kBoth>
__global__ void __launch_bounds__(kMaxStripThreads,
                                  strip_backward_blocks(kMaxStripThreads))
    strip_backward_kernel(SsimBackward p,
                          const __grid_constant__ Taps<float> taps,
                          const __grid_constant__ Constants<float> constants,
                          Tiling tiling, SumsOfTiles sums_of_tiles) {
  const int size = row_size(blockDim.x);
  float2* pixel_rows = shared_memory<float2>();  // [2, size]
  float* rows =                                  // [2, kSpread, size]
      reinterpret_cast<float*>(pixel_rows + 2 * size);
  // Shared memory holds the units, because registers are few.
  auto& units =
      *reinterpret_cast<Units<float>*>(rows + 2 * kSpread<kBoth> * size);
  for (int64_t round = blockIdx.x; round < tiling.count(); round += gridDim.x) {
    // Row i of the region completes row i - kHalo of the windows, which the
    // next round of the loop adds to row i - kHalo of the pixels.
    const Tile tile = tiling.tile(round);
    const int height = tiling.height_of(tile) + 2 * kHalo;
    const Region<Scalar> region(p, tile.plane, tile.top - kHalo,
                                tile.left - kHalo, height, size);
    const Units<float> found = region.units(constants.inverse_range);
    if (threadIdx.x == 0) units = found;
    __syncthreads();
    ThreadWindows windows(p, tile, height - kHalo, size - kHalo,
                          constants.inverse_range);
    ThreadPixels<Scalar, kBoth> pixels(p, region, tile, tiling.width_of(tile));
    const int begin = windows.inside.row_begin;
    float sums[SsimSums::kCount] = {};
    WindowMeans means;
    PixelSums<kBoth> by;
    RowLoader<Scalar> loader(region);
    loader.load(region, begin);
    for (int i = begin; i <= height; ++i) {
      const int odd = i & 1, last = i - kHalo, done = last - 1;
      const PixelRow<float2> row(pixel_rows + odd * size);
      float* last_rows = rows + odd * kSpread<kBoth> * size;
      const float* done_rows = rows + (1 - odd) * kSpread<kBoth> * size;
      loader.store(units, row);
      __syncthreads();
      loader.load(region, i + 1);
      if (last >= begin) windows.load_grads(last);
      if (done >= kHalo) pixels.load_next(region);
      if (done >= begin) by.push(taps, done_rows);
      if (done >= kHalo) pixels.store_grads(units, by, sums);
      means.push(taps, row);
      if (last >= begin) {
        sums[SsimSums::kIndex] += windows.differentiate<kBoth>(
            last, means, constants, units.pivots(), last_rows);
      }
    }
    if (sums_of_tiles.sums) {
      block_sums(sums, rows);
      sums[SsimSums::kWindows] =
          static_cast<float>(windows.owned.rows() * windows.owned.columns());
      if (!sums_of_tiles.errors) {
        sums[SsimSums::kSquaredErrors] = sums[SsimSums::kAbsoluteErrors] = 0;
      }
      sums_of_tiles.store(tiling, tile, sums);
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

// ------------------------------------------------------------------ launcher

template <typename Scalar, bool kBoth>
void strip_backward_of(const SsimBackward& p, const SumsOfTiles& sums,
                       void* stream) {
  const auto [tiling, threads] = strip_backward_plan(p);
  const std::size_t smem =
      2 * row_size(threads) *
          (sizeof(float2) + kSpread<kBoth> * sizeof(float)) +
      sizeof(Units<float>);
  launch("ssim strip_backward_kernel", strip_backward_kernel<Scalar, kBoth>,
         {grid_size(tiling), threads, smem}, stream, p, Taps<float>(p.vertical),
         Constants<float>(p), tiling, sums);
}

// SSIM is symmetric in its images: if only one needs a gradient, it becomes x.
inline SsimBackward with_grad_x(SsimBackward p) {
  if (p.grad_x) return p;
  std::swap(p.x, p.y);
  std::swap(p.x_strides, p.y_strides);
  std::swap(p.grad_x, p.grad_y);
  std::swap(p.grad_x_strides, p.grad_y_strides);
  return p;
}

// Writes the gradients and, if `sums` has memory for them, the sums of the
// forward pass.
template <typename Scalar>
void strip_backward(const SsimBackward& problem, const SumsOfTiles& sums,
                    void* stream) {
  const SsimBackward p = with_grad_x(problem);
  const auto run = p.grad_y ? &strip_backward_of<Scalar, true>
                            : &strip_backward_of<Scalar, false>;
  run(p, sums, stream);
}

}  // namespace vtadl::ssim
