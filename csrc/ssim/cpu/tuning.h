// The constants of the SSIM kernel for the CPU that were tuned.
#pragma once

#include <cstdint>

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

// The pixels of a tile. The height is a multiple of the floats in a vector.
constexpr int64_t kTileHeight = 16, kTileWidth = 64;

// Bands of all planes together, if they have enough rows of tiles.
constexpr int64_t kBands = 16;

// Rows of tiles of a band. A band of gradients also computes the windows of a
// row of tiles above it.
constexpr int64_t kLeastBandForward = 1, kLeastBandBackward = 4;

// Neighbouring results of a blur that are computed together: they share most of
// what they read.
constexpr int kBlurAtOnce = 4;

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
