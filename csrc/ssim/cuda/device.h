// The code that all SSIM kernels for the GPU share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/launch.h"
#include "common/reduce.h"
#include "ssim/cuda/plan.h"
#include "ssim/math.h"
#include "ssim/ssim.h"

namespace vtadl::ssim {

// Kernels loop where there are more tiles than blocks.
inline unsigned grid_size(const Tiling& tiling) {
  return static_cast<unsigned>(std::min(tiling.count(), kMaxBlocks));
}

// ---------------------------------------------------------------------- sums

// The memory for the sums of the tiles; each tile has its part of its plane.
struct SumsOfTiles {
  void* sums = nullptr;  // [planes, parts, SsimSums::kCount], Accumulate
  bool errors = false;   // whether the sums of errors are wanted
  int64_t parts = 0;     // of a plane; a tiling may have fewer

  // Writes the sums of a tile. The last tile of a plane also writes zeros for
  // the parts that the tiling does not have.
  template <typename T>
  __device__ void store(const Tiling& tiling, const Tile& tile,
                        const T (&values)[SsimSums::kCount]) const {
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
};

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

  // The gradient of a pixel of x; that of y is the negative. Where it is not
  // wanted it is 0, not 0 · x, which may be NaN.
  __device__ T of_x(T x, T y) const {
    if (!wanted) return 0;
    const T error = x - y;
    const T sign = error > 0 ? T(1) : error < 0 ? T(-1) : error;
    return 2 * error * squared + sign * absolute;
  }
};

// -------------------------------------------------------------------- pixels

// The pivot of the pixels that the first kPivotPixels lanes of a warp hold, one
// each; every lane gets it. Only finite pixels that are `valid` count; where
// none does, the result is `otherwise`.
template <typename T>
__device__ T pivot_of_lanes(T pixel, bool valid, T otherwise) {
  valid = valid && std::isfinite(pixel);
  const int lane = threadIdx.x % kWarp;
  int count = 0;  // of the pixels
  int rank = 0;   // of this lane's pixel among them
  for (int other = 0; other < kPivotPixels; ++other) {
    const T value = __shfl_sync(kFullMask, pixel, other);
    if (!__shfl_sync(kFullMask, static_cast<int>(valid), other)) continue;
    ++count;
    rank += value < pixel || (value == pixel && other < lane);
  }
  if (count == 0) return otherwise;
  const int drop = outermost(count);
  const bool is_used =
      lane < kPivotPixels && valid && rank >= drop && rank < count - drop;
  return warp_sum(is_used ? pixel : T(0)) / static_cast<T>(count - 2 * drop);
}

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
