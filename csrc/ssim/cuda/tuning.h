// The constants of the SSIM kernels for the GPU that were tuned, or that follow
// from the registers and the shared memory of a multiprocessor.
//
// The dates are those of the commits that set the values. No record says on
// which machine and benchmark case they were chosen, nor what half and double
// cost: where a comment says "not measured", it reports what follows from the
// code. With these values an NVIDIA H100 (80 GB, PyTorch 2.11) took 72 µs
// forward and 202 µs with the gradient of one image for 8 x 3 x 512 x 512 in
// float32, on 2026-11-27 (docs/benchmarks.md, "SSIM on an H100").
#pragma once

#include "common/host_device.h"

namespace vtadl::ssim {

// ------------------------------------------------------------------- strips

// Columns of a thread, side by side. Set on 2026-11-24. Half and double were
// not measured. Half would read each value of a row 11 times instead of 6;
// double needs twice the registers for running sums, of which the kernels use
// all.
constexpr int kColumns = 2;

// The most threads of a block. Set on 2026-11-24. Half and double were not
// measured. Strips of half the threads read the halo of 10 columns twice as
// often; the registers hold one backward block of double the threads instead of
// two.
constexpr int kMaxStripThreads = 128;

// Threads of the forward kernel whose registers a multiprocessor holds: 128
// registers each. Set on 2026-11-27. Half and double were not measured: double
// leaves 64 registers, fewer than the 80 running sums of a thread.
constexpr int kStripForwardThreads = 4 * kMaxStripThreads;

// Blocks of the backward kernel whose registers a multiprocessor holds: some
// 250 registers a thread. Set on 2026-11-27. Half and double were not measured:
// double leaves a thread half the registers, fewer than its running sums.
VTADL_INLINE constexpr int strip_backward_blocks(int threads) {
  return threads > 64 ? 2 : threads > 32 ? 4 : 8;
}

// The heights of the bands among which the plan chooses. Set on 2026-11-24.
// Half and double were not measured: the plan would choose among other heights,
// by the same estimate of time.
constexpr int kLeastBand = 16, kMostBand = 256, kBandStep = 8;

// -------------------------------------------------------------------- tiles

// Threads of a block. Set on 2026-11-23. Half and double were not measured.
constexpr int kTileThreads = 256;

// Blocks whose registers a multiprocessor holds: 128 registers a thread. Set on
// 2026-11-24. Half and double were not measured.
constexpr int kTileBlocks = 2;

// The windows of a tile of the forward pass. Set on 2026-11-24. Half and
// double were not measured.
constexpr int kTileHeight = 16, kTileWidth = 32;

// The side of a tile of pixels in the backward pass, and the side that shared
// memory always holds: the plan takes the largest power of two between them
// that fits. Set on 2026-11-23. A thread makes one gradient, so that double
// the most would need four times the threads; half was not measured.
constexpr int kMostTileSide = 16, kLeastTileSide = 4;
static_assert(kMostTileSide * kMostTileSide <= kTileThreads);

// -------------------------------------------------------------------- total

// Threads of the one block that adds up all parts. Set on 2026-11-27. Half
// and double were not measured.
constexpr int kTotalThreads = 512;

}  // namespace vtadl::ssim
