// The tuned constants of the mixture kernels for the GPU.
#pragma once

#include <cstdint>

#include "gmm/scale_param.h"

namespace vtadl::gmm {

using std::int64_t;

constexpr int kBlockThreads = 256;
template <typename Scalar>
constexpr int kBlocksPerSm = sizeof(Scalar) == 4   ? 4
                             : sizeof(Scalar) == 8 ? 2
                                                   : 3;
template <typename Scalar>
constexpr int kOnePassBlocksPerSm = sizeof(Scalar) == 4 ? 3 : 2;
constexpr int kClusterBlockThreads = 512;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
template <ScaleParam kParam>
constexpr int kPacksAtOnce = 1;
#else
template <ScaleParam kParam>
constexpr int kPacksAtOnce = 1;
template <>
constexpr int kPacksAtOnce<ScaleParam::kLogStd> = 2;
template <>
constexpr int kPacksAtOnce<ScaleParam::kStd> = 2;
template <>
constexpr int kPacksAtOnce<ScaleParam::kLogVar> = 2;
#endif
constexpr int kClusterGridPerSm = 8;
constexpr int kPacksPerThread = 4;
constexpr int kL2Share = 2;
constexpr int kComponentsPerLane = 4;
constexpr int kFewFeatures = 4;
constexpr int kWaves = 2;
constexpr int64_t kMostComponentsPerGroup = 8;
constexpr int64_t kMinColumns = 8, kMaxColumns = 128;
constexpr int64_t kAddendsPerThread = 8;
constexpr int64_t kManySamples = 32;
constexpr int kSharedBlockThreads = 128;
constexpr int kSharedBlocksPerSm = 4;
constexpr int kQuad = 4;
constexpr int kPair = 2;
constexpr int kTileFeatureBytes = 128;
constexpr int kTileComponentsOfX = 8;
constexpr int64_t kMinSlab = 256, kMaxSlab = 1024;
constexpr int64_t kSlabBlocksPerSm = 8;

}  // namespace vtadl::gmm
