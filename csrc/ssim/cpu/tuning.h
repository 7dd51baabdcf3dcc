// The constants of the SSIM kernel for the CPU that were tuned.
#pragma once

#include <cstdint>

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

// TODO figures
constexpr int64_t kTileHeight = 16, kTileWidth = 64;

constexpr int64_t kBands = 16;

constexpr int64_t kLeastBandForward = 1, kLeastBandBackward = 4;

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
