// The contract between the SSIM operators and their kernels.
#pragma once

#include <cstdint>

#include "common/dispatch.h"
#include "common/integers.h"

namespace vtadl {

// Pairs of planes (one channel of one image each), contiguous. `Accumulate` is
// float32, or float64 where dtype is float64.
struct SsimProblem {
  static constexpr int kMaxTaps = 31;

  DType dtype;
  std::int64_t planes, height, width;
  int taps;                 // side of the window, odd
  double window[kMaxTaps];  // weights along each axis: symmetric, with sum 1
  double c1, c2;
  const void* x;  // [planes, height, width]
  const void* y;

  // Windows that lie inside the image.
  VTADL_INLINE std::int64_t map_height() const { return height - taps + 1; }
  VTADL_INLINE std::int64_t map_width() const { return width - taps + 1; }

  // Sums of the map are taken over tiles first.
  static constexpr std::int64_t kTileHeight = 16, kTileWidth = 64;

  VTADL_INLINE std::int64_t tile_rows() const {
    return divide_up(map_height(), kTileHeight);
  }
  VTADL_INLINE std::int64_t tile_columns() const {
    return divide_up(map_width(), kTileWidth);
  }
};

struct SsimForward : SsimProblem {
  void* map;        // [planes, map_height, map_width], Accumulate; or null
  void* tile_sums;  // [planes, tiles], Accumulate; or null
};

struct SsimBackward : SsimProblem {
  const void* grad;  // Accumulate: of the map, or [planes]: of its sums
  bool grad_of_map;
  void* grad_x;  // [planes, height, width]; null where not asked for
  void* grad_y;
};

struct SsimCpuKernels {
  void (*forward)(const SsimForward&);
  void (*backward)(const SsimBackward&);
};

void ssim_forward_cuda(const SsimForward&, void* stream);
void ssim_backward_cuda(const SsimBackward&, void* stream);

}  // namespace vtadl
