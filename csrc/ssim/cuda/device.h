// What the SSIM kernels for the GPU have in common.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/integers.h"
#include "common/launch.h"
#include "common/reduce.h"
#include "ssim/math.h"
#include "ssim/ssim.h"

namespace vtadl::ssim {

using std::int64_t;

// --------------------------------------------------------------------- tiles

// A plane's rectangle that a block works on in a round, and its number in it.
struct Tile {
  int64_t plane, part, top, left;
};

// Of planes of height × width, cut into tiles of tile_height × tile_width.
struct Tiling {
  int64_t planes, height, width;
  int tile_height, tile_width;

  VTADL_INLINE int64_t columns() const { return divide_up(width, tile_width); }
  VTADL_INLINE int64_t parts() const {
    return divide_up(height, tile_height) * columns();
  }
  VTADL_INLINE int64_t count() const { return planes * parts(); }

  VTADL_INLINE Tile tile(int64_t index) const {
    const int64_t part = index % parts();
    return {index / parts(), part, part / columns() * tile_height,
            part % columns() * tile_width};
  }
  VTADL_INLINE int height_of(const Tile& tile) const {
    return static_cast<int>(smaller(tile_height, height - tile.top));
  }
  VTADL_INLINE int width_of(const Tile& tile) const {
    return static_cast<int>(smaller(tile_width, width - tile.left));
  }
};

// Kernels loop where there are more tiles than blocks.
inline unsigned grid_size(const Tiling& tiling) {
  return static_cast<unsigned>(std::min(tiling.count(), kMaxBlocks));
}

// ---------------------------------------------------------------------- sums

// Writes a tile's sums. Where the plane has more parts than this tiling, its
// last tile writes the others.
template <typename T>
__device__ void store_sums(void* sums, int64_t parts, const Tiling& tiling,
                           const Tile& tile,
                           const T (&values)[SsimSums::kCount]) {
  if (threadIdx.x > 0) return;
  T* of_plane = static_cast<T*>(sums) + tile.plane * parts * SsimSums::kCount;
  VTADL_UNROLL
  for (int s = 0; s < SsimSums::kCount; ++s) {
    of_plane[tile.part * SsimSums::kCount + s] = values[s];
  }
  if (tile.part + 1 < tiling.parts()) return;
  for (int64_t i = tiling.parts() * SsimSums::kCount;
       i < parts * SsimSums::kCount; ++i) {
    of_plane[i] = 0;
  }
}

// Adds what a pixel contributes to the sums of errors.
template <typename T>
__device__ void add_errors(T x, T y, T (&sums)[SsimSums::kCount]) {
  sums[SsimSums::kSquaredErrors] += (x - y) * (x - y);
  sums[SsimSums::kAbsoluteErrors] += std::abs(x - y);
}

// ----------------------------------------------------------------- gradients

// The gradient of a sum of a plane.
template <typename T>
__device__ T grad_of_sum(const SsimBackward& p, int64_t plane, int which) {
  return p.grad
             ? static_cast<const T*>(p.grad)[plane * SsimSums::kCount + which]
             : static_cast<T>(p.constant_grad[which]);
}

// The gradients of a plane's sums of errors.
template <typename T>
struct ErrorGrads {
  bool wanted;
  T squared, absolute;

  __device__ ErrorGrads(const SsimBackward& p, int64_t plane)
      : wanted(p.errors && !p.grad_of_map), squared(0), absolute(0) {
    if (!wanted) return;
    squared = grad_of_sum<T>(p, plane, SsimSums::kSquaredErrors);
    absolute = grad_of_sum<T>(p, plane, SsimSums::kAbsoluteErrors);
  }

  // With respect to x; that of y is the negative. Not 0 · x, which may be NaN.
  __device__ T of_x(T x, T y) const {
    if (!wanted) return 0;
    const T error = x - y;
    const T sign = error > 0 ? T(1) : error < 0 ? T(-1) : error;
    return 2 * error * squared + sign * absolute;
  }
};

// ------------------------------------------------------------ pixels' values

// The problem's constants in the type of the sums: 1 over the data range, k1²,
// k2². Made on the host, for a GPU is slow with doubles.
template <typename T>
struct Scale {
  T scale, c1, c2;
  bool luminance;

  explicit Scale(const SsimProblem& p)
      : scale(static_cast<T>(1 / p.data_range)),
        c1(static_cast<T>(p.k1 * p.k1)),
        c2(static_cast<T>(p.k2 * p.k2)),
        luminance(p.luminance) {}
};

// Of the pixels that the first lanes of a warp hold, one each, for all its
// lanes: the mean of the middle half of those that count and are numbers, or
// else `otherwise`.
template <typename T>
__device__ T pivot_of_lanes(T pixel, bool counts, T otherwise) {
  counts = counts && std::isfinite(pixel);
  const int lane = threadIdx.x % kWarp;
  int count = 0, rank = 0;  // of the pixels, and of this lane's among them
  for (int other = 0; other < kPivotPixels; ++other) {
    const T value = __shfl_sync(kFullMask, pixel, other);
    if (!__shfl_sync(kFullMask, static_cast<int>(counts), other)) continue;
    ++count;
    rank += value < pixel || (value == pixel && other < lane);
  }
  if (count == 0) return otherwise;
  const int drop = outermost(count);
  const bool is_used =
      lane < kPivotPixels && counts && rank >= drop && rank < count - drop;
  return warp_sum(is_used ? pixel : T(0)) / static_cast<T>(count - 2 * drop);
}

// From pixels to x' and d.
template <typename T>
struct Units {
  T scale, pivot_x, pivot_difference;

  __device__ Units(T scale, T pivot_x, T pivot_y)
      : scale(scale), pivot_x(pivot_x), pivot_difference(pivot_x - pivot_y) {}

  __device__ T x(T x) const { return (x - pivot_x) * scale; }
  __device__ T difference(T x, T y) const {
    return (x - y - pivot_difference) * scale;
  }

  __device__ Constants<T> constants(const Scale<T>& of) const {
    return {of.c1,
            of.c2,
            of.luminance,
            {pivot_x * scale, pivot_difference * scale}};
  }
};

// One plane of an image.
template <typename Scalar>
struct Plane {
  Scalar* data;
  int64_t row_stride, column_stride;

  template <typename Pointer>
  __device__ Plane(const SsimProblem& p, Pointer image,
                   const ImageStrides& strides, int64_t plane)
      : data(static_cast<Scalar*>(image) + p.plane_offset(strides, plane)),
        row_stride(strides.row),
        column_stride(strides.column) {}

  __device__ Scalar* at(int64_t row, int64_t column) const {
    return data + row * row_stride + column * column_stride;
  }
};

}  // namespace vtadl::ssim
