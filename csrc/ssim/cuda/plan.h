// Which kernels serve an SSIM problem on the GPU, and how they cut its planes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/integers.h"
#include "common/launch.h"
#include "common/warp.h"
#include "ssim/cuda/tuning.h"
#include "ssim/math.h"
#include "ssim/ssim.h"
#include "ssim/tiling.h"

namespace vtadl::ssim {

using std::int64_t;

// ------------------------------------------------------------------ regimes

enum class Regime {
  // The problem has no plane, or asks for no result: nothing runs.
  kNothing,
  // A block goes down a strip of columns and keeps the running sums of their
  // windows in registers, so that memory and shared memory are read least. The
  // registers suffice for the usual window in float32, without the sum of
  // weights that a mask needs.
  kStrips,
  // A block holds a tile of windows in shared memory. The kernels serve every
  // problem: any window, doubles, masks.
  kTiles
};

// The window of the kernels for strips.
constexpr int kTaps = 11;
constexpr int kHalo = kTaps - 1;

// Strips have one window for both axes, and need a border narrower than it: in
// a wider one lie windows that touch no strip.
inline bool fits_strips(const SsimProblem& p) {
  const bool fits_window =
      p.vertical.count == kTaps && p.horizontal.count == kTaps &&
      std::equal(p.vertical.weights, p.vertical.weights + kTaps,
                 p.horizontal.weights);
  return fits_window && p.dtype != DType::kFloat64 && p.mask == nullptr &&
         p.border_rows < kTaps && p.border_columns < kTaps;
}

inline Regime regime_of(const SsimProblem& p) {
  if (p.planes() == 0) return Regime::kNothing;
  return fits_strips(p) ? Regime::kStrips : Regime::kTiles;
}

inline Regime regime_of(const SsimForward& p) {
  return regime_of(static_cast<const SsimProblem&>(p));
}

inline Regime regime_of(const SsimBackward& p) {
  if (!p.grad_x && !p.grad_y) return Regime::kNothing;
  return regime_of(static_cast<const SsimProblem&>(p));
}

// Whether one kernel makes the sums and the gradients: the backward kernel for
// strips does, because it computes the index of every window on its way. That
// for tiles computes the windows between tiles several times.
inline bool in_one_pass(const SsimForwardBackward& p) {
  return regime_of(p.backward) == Regime::kStrips && !p.forward.map;
}

// ------------------------------------------------------------------- strips

// How planes are cut, and the threads of a block.
struct StripPlan {
  Tiling tiling;
  int threads;
};

// Cuts planes into strips and bands of the height, so that the last block ends
// as soon as possible. A strip is `lost_columns` narrower than the columns of
// its threads, and a band takes as long as `lost_rows` more rows than it has. A
// multiprocessor works on resident(threads) blocks at a time, and a row takes
// all blocks as long.
template <typename Resident>
StripPlan strip_plan(int64_t planes, int64_t height, int64_t width,
                     int lost_rows, int lost_columns,
                     const Resident& resident) {
  StripPlan best{};
  int64_t best_cost = 0;
  for (int threads = kMaxStripThreads; threads > 0; threads -= kWarp) {
    const int tile_width = threads * kColumns - lost_columns;
    const int64_t slots = multiprocessors() * resident(threads);
    for (int rows = kLeastBand; rows <= kMostBand; rows += kBandStep) {
      const Tiling tiling{planes, height, width, rows, tile_width};
      const int64_t cost =
          divide_up(tiling.count(), slots) * (rows + lost_rows);
      if (best.threads == 0 || cost < best_cost) {
        best = {tiling, threads};
        best_cost = cost;
      }
    }
  }
  return best;
}

// The forward pass cuts the map; its pixels reach beyond a tile by a halo below
// and on the right. The threads have their columns of windows, and share the
// halo.
inline StripPlan strip_forward_plan(const SsimProblem& p) {
  return strip_plan(p.planes(), p.map_height(), p.map_width(), kHalo, 0,
                    [](int threads) { return kStripForwardThreads / threads; });
}

// The backward pass cuts the images; its windows reach beyond a tile by a halo
// on both sides, and a row of them takes all columns of the threads.
inline StripPlan strip_backward_plan(const SsimProblem& p) {
  return strip_plan(p.planes(), p.height, p.width, 2 * kHalo, kHalo,
                    &strip_backward_blocks);
}

// -------------------------------------------------------------------- tiles

inline Tiling tile_forward_tiling(const SsimProblem& p) {
  return {p.planes(), p.map_height(), p.map_width(), kTileHeight, kTileWidth};
}

// Arrays of a number for each window of a tile: its statistics and, under a
// mask, the weight of its valid pixels.
inline std::size_t tile_arrays(const SsimProblem& p) {
  return kStatistics + (p.mask ? 1 : 0);
}

// Shared memory of a block: the arrays, and the sums down the columns of one
// statistic.
template <typename T>
std::size_t tile_forward_smem(const SsimProblem& p) {
  return (tile_arrays(p) * kTileHeight * kTileWidth +
          kTileHeight * (kTileWidth + p.halo_columns())) *
         sizeof(T);
}

template <typename T>
std::size_t tile_backward_smem(const SsimProblem& p, int side) {
  const std::size_t height = side + p.halo_rows();
  const std::size_t width = side + p.halo_columns();
  return height * (tile_arrays(p) * width + width + p.halo_columns()) *
         sizeof(T);
}

// The backward pass cuts the images into squares, the largest whose windows
// shared memory holds: all windows that touch a tile are computed for it.
template <typename T>
Tiling tile_backward_tiling(const SsimProblem& p) {
  int side = kMostTileSide;
  const std::size_t limit = max_shared_bytes();
  while (side > kLeastTileSide && tile_backward_smem<T>(p, side) > limit) {
    side /= 2;
  }
  return {p.planes(), p.height, p.width, side, side};
}

// -------------------------------------------------------------------- parts

// Parts of a plane, of which each has its sums. Both kernels for strips write
// as many: where their tilings have fewer, they fill up with zeros.
inline int64_t parts_of_plane(const SsimProblem& p) {
  if (!fits_strips(p)) return tile_forward_tiling(p).parts();
  return std::max(strip_forward_plan(p).tiling.parts(),
                  strip_backward_plan(p).tiling.parts());
}

}  // namespace vtadl::ssim
