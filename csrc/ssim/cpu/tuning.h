// The constants of the SSIM kernel for the CPU that were tuned.
//
// The figures are from an AMD EPYC with AVX-512, 2026-11-28, float32: the time
// of a processor for the value with the gradient of one image, on one thread,
// as medians of alternating runs. "+13 %" means that the other value is slower.
#pragma once

#include <cstdint>

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

// The pixels of a tile. The height is a multiple of the floats in a vector, of
// which AVX-512 has 16. For images of 8 x 3 x 256 x 256, half the width costs
// +13 %, double the width or the height -6 %; half the height is impossible.
// The tile stays small, because all of its pixels have one pivot: a larger one
// keeps fewer digits on steep ramps.
constexpr int64_t kTileHeight = 16, kTileWidth = 64;

// The bands of all planes together, if they have enough rows of tiles: so many
// threads can work on one image. For an image of 1 x 1 x 1024 x 1024, half
// costs -6 % and double +1 %. With only two cores there, no run shows how
// many bands larger machines need.
constexpr int64_t kBands = 16;

// The least rows of tiles of a band. A band of gradients also computes the
// windows of a row of tiles above it, one of forward passes does not. For an
// image of 1 x 3 x 256 x 256, half of 4 costs +5 % and double -8 %, but lets
// only half as many threads work on it. Double of 1 costs +1 % forward; half is
// impossible.
constexpr int64_t kLeastBandForward = 1, kLeastBandBackward = 4;

// The neighbouring results of a blur that are computed together, because they
// share most of what they read. For images of 8 x 3 x 256 x 256, half costs
// +13 % and double +14 %.
constexpr int kBlurAtOnce = 4;

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
