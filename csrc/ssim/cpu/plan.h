// Which kernel serves an SSIM problem on the CPU, and how it cuts the planes.
//
// There is one regime, tiles, for every problem: a pass (pass.h) goes down a
// band of a plane, tile by tile. The cache holds a tile whatever the window,
// the type and the mask, so that strips, which save shared memory on the GPU,
// would gain nothing here. The kernel is compiled for windows of 11 taps, whose
// sums the compiler then unrolls, and for windows of any size; with a mask, for
// which it blurs a fifth term, and without one.
#pragma once

#include <algorithm>
#include <type_traits>

#include "common/integers.h"
#include "common/parallel.h"
#include "ssim/cpu/tuning.h"
#include "ssim/pixels.h"
#include "ssim/ssim.h"
#include "ssim/tiling.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The tiles of the planes with their border: those of the windows are the same,
// for a window belongs to the tile of its first pixel.
VTADL_HOST_INLINE ssim::Tiling tiling_of(const SsimProblem& p) {
  return {p.planes(), p.padded_height(), p.padded_width(), kTileHeight,
          kTileWidth};
}

// Some rows of tiles, from `begin` to before `end`, of a plane.
struct Band {
  int64_t plane, begin, end;
};

struct Plan {
  ssim::Tiling tiling;
  int64_t bands;  // of each plane
  int64_t grain;  // bands that are worth a thread

  // The shape alone decides how planes are cut, so that the number of threads
  // does not change the result.
  VTADL_HOST_INLINE Plan(const SsimProblem& p, bool backward)
      : tiling(tiling_of(p)) {
    const int64_t least = backward ? kLeastBandBackward : kLeastBandForward;
    const int64_t planes = std::max<int64_t>(1, p.planes());
    bands = std::clamp<int64_t>(divide_up(kBands, planes), 1,
                                std::max<int64_t>(1, tiling.rows() / least));
    const int64_t pixels = tiling.height * tiling.width / bands;
    grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, pixels));
  }

  VTADL_HOST_INLINE int64_t count() const { return tiling.planes * bands; }

  VTADL_HOST_INLINE Band band(int64_t index) const {
    const int64_t band = index % bands, rows = tiling.rows();
    return {index / bands, band * rows / bands, (band + 1) * rows / bands};
  }
};

// Calls body(zero, taps, masked) for the kernel that serves the problem: with a
// zero of the images' type, the taps along either axis as a constant, which is
// 0 for windows of any size, and whether there is a mask.
template <typename Body>
VTADL_HOST_INLINE void dispatch_kernels(const SsimProblem& p,
                                        const Body& body) {
  constexpr std::integral_constant<int, 11> kUsual;
  constexpr std::integral_constant<int, 0> kAny;
  ssim::dispatch_pixels(p, [&](auto zero) {
    const auto with_mask = [&](auto masked) {
      const bool is_usual =
          p.vertical.count == kUsual && p.horizontal.count == kUsual;
      if (is_usual) return body(zero, kUsual, masked);
      body(zero, kAny, masked);
    };
    if (p.mask != nullptr) return with_mask(std::true_type());
    with_mask(std::false_type());
  });
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
