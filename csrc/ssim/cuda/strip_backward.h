// Gradients in strips, with the sums of the forward pass where they are wanted.
#pragma once

#include "ssim/cuda/strips.h"

namespace vtadl::ssim {

// Blocks of so many threads that the registers of a multiprocessor suffice for.
VTADL_INLINE constexpr int backward_blocks(int threads) {
  return threads > 64 ? 2 : threads > 32 ? 4 : 8;
}

// How many derivatives go through shared memory: those by the mean of y only
// where both images need a gradient.
template <bool kBoth>
constexpr int kMaps = kBoth ? kDerivatives : kDerivatives - 1;

// The windows of a thread's columns, row after row: the gradients that they are
// given and the derivatives by their statistics.
class OwnWindows {
 public:
  const Inside inside;  // what of the region's windows is in the map
  const Inside owned;   // whose values the tile sums

  __device__ OwnWindows(const SsimBackward& p, const Tile& tile, int rows,
                        int columns, float scale)
      : inside(tile.top - kHalo + p.border, tile.left - kHalo + p.border, rows,
               columns, p.map_height(), p.map_width()),
        owned(inside.without_halo(tile)),
        is_map_(p.grad_of_map),
        map_width_(p.map_width()),
        scale_(scale) {
    VTADL_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      is_inside_[k] = inside.holds_column(own_column(k));
      is_owned_[k] = owned.holds_column(own_column(k));
    }
    if (is_map_) {
      const int64_t row = tile.plane * p.map_height() + tile.top - kHalo +
                          p.border + inside.row_begin;
      from_ = static_cast<const float*>(p.grad) + row * map_width_ + tile.left -
              kHalo + p.border + own_column(0);
    } else {
      scale_ *= grad_of_sum<float>(p, tile.plane, SsimSums::kIndex);
    }
  }

  // Row i, and then one after the other.
  __device__ void load_grads(int i) {
    const bool row_is_inside = inside.holds_row(i);
    VTADL_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      grads_[k] = scale_;
      if (row_is_inside && is_inside_[k] && is_map_) grads_[k] *= from_[k];
    }
    if (is_map_) from_ += map_width_;
  }

  // For row i, whose gradients and means came last: to shared memory. Returns
  // the sum of the values that the tile owns.
  template <bool kBoth>
  __device__ float differentiate(int i, const WindowMeans& windows,
                                 const Constants<float>& constants,
                                 float* maps) const {
    const bool row_is_inside = inside.holds_row(i);
    float sum = 0, by[kMaps<kBoth>][kColumns];
    VTADL_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      const Similarity<float> index = windows.similarity(k, constants);
      VTADL_UNROLL
      for (int m = 0; m < kMaps<kBoth>; ++m) {
        by[m][k] =
            row_is_inside && is_inside_[k] ? grads_[k] * index.grad[m] : 0.0f;
      }
      sum += is_owned_[k] ? index.value : 0.0f;
    }
    VTADL_UNROLL
    for (int m = 0; m < kMaps<kBoth>; ++m) {
      store_pair(maps + m * row_room(blockDim.x), by[m][0], by[m][1]);
    }
    return owned.holds_row(i) ? sum : 0.0f;
  }

 private:
  const bool is_map_;  // else all windows are given the same
  const int64_t map_width_;
  float scale_;  // in units of the data range
  const float* from_ = nullptr;
  bool is_inside_[kColumns], is_owned_[kColumns];
  float grads_[kColumns];  // of the windows in the row that came last
};

// Sums over the windows that hold the pixels of a thread's columns, as row
// after row of derivatives comes.
template <bool kBoth>
struct PixelSums {
  RunningSum running[kMaps<kBoth>][kColumns] = {};
  float sums[kMaps<kBoth>][kColumns];

  __device__ void push(const Window<float>& window, const float* rows) {
    VTADL_UNROLL
    for (int m = 0; m < kMaps<kBoth>; ++m) {
      float grads[kReach], of_row[kColumns] = {};
      load_reach(rows + m * row_room(blockDim.x), grads);
      VTADL_UNROLL
      for (int j = 0; j < kReach; ++j) {
        add_weighted(window, j, grads[j], of_row);
      }
      VTADL_UNROLL
      for (int k = 0; k < kColumns; ++k) {
        sums[m][k] = running[m][k].push(window, of_row[k]);
      }
    }
  }

  // Gradients of the pixels in the row of the windows that came last.
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

// The pixels of a thread's columns, row after row when their last window is
// known, and their gradients. Where one image needs them it is x.
template <typename Scalar, bool kBoth>
class OwnPixels {
 public:
  __device__ OwnPixels(const SsimBackward& p, const Region<Scalar>& region,
                       const Tile& tile, int width)
      : grad_x_(p, p.grad_x, p.grad_x_strides, tile.plane),
        grad_y_(p, kBoth ? p.grad_y : p.grad_x,
                kBoth ? p.grad_y_strides : p.grad_x_strides, tile.plane),
        errors_(p, tile.plane),
        width_(width),
        from_x_(region.x.at(tile.top, tile.left + own_column(0))),
        from_y_(region.y.at(tile.top, tile.left + own_column(0))),
        to_x_(grad_x_.at(tile.top, tile.left + own_column(0))),
        to_y_(grad_y_.at(tile.top, tile.left + own_column(0))) {}

  __device__ void load_next(const Region<Scalar>& region) {
    VTADL_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      const bool is_own = own_column(k) < width_;
      const Scalar zero = static_cast<Scalar>(0.0f);
      x_[k] = is_own ? from_x_[k * region.x.column_stride] : zero;
      y_[k] = is_own ? from_y_[k * region.y.column_stride] : zero;
    }
    from_x_ += region.x.row_stride;
    from_y_ += region.y.row_stride;
  }

  // Also adds their errors.
  __device__ void store_grads(const Units<float>& units,
                              const PixelSums<kBoth>& by,
                              float (&sums)[SsimSums::kCount]) {
    VTADL_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      const float x = static_cast<float>(x_[k]), y = static_cast<float>(y_[k]);
      const float by_error = errors_.of_x(x, y);
      add_errors(x, y, sums);
      if (own_column(k) >= width_) continue;
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

// Moves 3 elements per pixel, 4 for both images, and the gradients of the
// windows if each has its own; of shared memory 140 bytes, or 168. An eighth of
// the threads that a multiprocessor holds, with some 250 registers each.
template <typename Scalar, bool kBoth>
__global__ void __launch_bounds__(kMaxThreads, backward_blocks(kMaxThreads))
    strip_backward_kernel(SsimBackward p,
                          const __grid_constant__ Window<float> window,
                          const __grid_constant__ Scale<float> scale,
                          Tiling tiling, void* sums_of_tiles, bool errors,
                          int64_t parts) {
  const int room = row_room(blockDim.x);
  float2* rows = shared_memory<float2>();  // [2, room]
  float* maps =                            // [2, kMaps, room]
      reinterpret_cast<float*>(rows + 2 * room);
  // Here they are in no thread's registers, which are few.
  auto& units =
      *reinterpret_cast<Units<float>*>(maps + 2 * kMaps<kBoth> * room);
  for (int64_t round = blockIdx.x; round < tiling.count(); round += gridDim.x) {
    // Row i of the region completes row i - kHalo of the windows, which the
    // next round of the loop adds to row i - kHalo of the pixels.
    const Tile tile = tiling.tile(round);
    const int height = tiling.height_of(tile) + 2 * kHalo;
    const Region<Scalar> region(p, tile.plane, tile.top - kHalo,
                                tile.left - kHalo, height, room);
    const Units<float> found = region.units(scale.scale);
    if (threadIdx.x == 0) units = found;
    __syncthreads();
    OwnWindows windows(p, tile, height - kHalo, room - kHalo, scale.scale);
    OwnPixels<Scalar, kBoth> pixels(p, region, tile, tiling.width_of(tile));
    const int begin = windows.inside.row_begin;
    float sums[SsimSums::kCount] = {};
    WindowMeans means;
    PixelSums<kBoth> by;
    RowShare<Scalar> share(region);
    share.load(region, begin);
    for (int i = begin; i <= height; ++i) {
      const int odd = i & 1, last = i - kHalo, done = last - 1;
      const PixelRow<float2> row(rows + odd * room);
      float* last_maps = maps + odd * kMaps<kBoth> * room;
      const float* done_maps = maps + (1 - odd) * kMaps<kBoth> * room;
      share.store(units, row);
      __syncthreads();
      share.load(region, i + 1);
      if (last >= begin) windows.load_grads(last);
      if (done >= kHalo) pixels.load_next(region);
      if (done >= begin) by.push(window, done_maps);
      if (done >= kHalo) pixels.store_grads(units, by, sums);
      means.push(window, row);
      if (last >= begin) {
        sums[SsimSums::kIndex] += windows.differentiate<kBoth>(
            last, means, units.constants(scale), last_maps);
      }
    }
    if (sums_of_tiles) {
      block_sums(sums, maps);
      sums[SsimSums::kWindows] =
          static_cast<float>(windows.owned.rows() * windows.owned.columns());
      if (!errors) {
        sums[SsimSums::kSquaredErrors] = sums[SsimSums::kAbsoluteErrors] = 0;
      }
      store_sums(sums_of_tiles, parts, tiling, tile, sums);
    }
    __syncthreads();  // the next round writes where this one reads
  }
}

// ------------------------------------------------------------------ launcher

inline StripPlan backward_plan(const SsimProblem& p) {
  return strip_plan(p.planes(), p.height, p.width, 2 * kHalo, kHalo,
                    &backward_blocks);
}

template <typename Scalar, bool kBoth>
void strip_backward_of(const SsimBackward& p, void* sums, bool errors,
                       int64_t parts, void* stream) {
  const auto [tiling, threads] = backward_plan(p);
  launch("ssim strip_backward_kernel", strip_backward_kernel<Scalar, kBoth>,
         {grid_size(tiling), threads,
          2 * (row_room(threads) * sizeof(float2) +
               kMaps<kBoth> * row_room(threads) * sizeof(float)) +
              sizeof(Units<float>)},
         stream, p, Window<float>(p), Scale<float>(p), tiling, sums, errors,
         parts);
}

// SSIM does not tell its images apart: the one that needs a gradient is x.
inline SsimBackward with_grad_x(SsimBackward p) {
  if (p.grad_x) return p;
  std::swap(p.x, p.y);
  std::swap(p.x_strides, p.y_strides);
  std::swap(p.grad_x, p.grad_y);
  std::swap(p.grad_x_strides, p.grad_y_strides);
  return p;
}

// `sums` may be null.
template <typename Scalar>
void strip_backward(const SsimBackward& problem, void* sums, bool errors,
                    int64_t parts, void* stream) {
  const SsimBackward p = with_grad_x(problem);
  const auto run = p.grad_y ? &strip_backward_of<Scalar, true>
                            : &strip_backward_of<Scalar, false>;
  run(p, sums, errors, parts, stream);
}

}  // namespace vtadl::ssim
