// The tuned constants of the mixture kernels for the CPU.
#pragma once

#include <cstdint>

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// A block of samples holds so many vectors: as many sums are in flight.
constexpr int kVectors = 4;

// Vectors of features are used from so many features on.
constexpr std::int64_t kManyFeatures = 16;

// A mixture is read once for all of its samples, in vectors of samples, from so
// many of them on. For the gradients vectors of samples have to add up their
// lanes: there they are as fast as vectors of features from more samples on.
constexpr std::int64_t kManySamples = 16;
constexpr std::int64_t kManySamplesWithGrads = 32;

// A mixture of more parameters is large: see is_shared().
constexpr std::int64_t kLargeMixture = 1 << 15;

// One mixture after another keeps all threads busy from so many mixtures on.
constexpr std::int64_t kLeastMixtures = 16;

// Parameters that are kept activated for a block of samples.
constexpr std::int64_t kMaxCachedParameters = 128;

// Slabs that the samples of one row of parameters are cut into at most.
constexpr std::int64_t kMaxSlabs = 32;

// Samples whose distances to one component are summed at the same time.
constexpr int kSamplesInFlight = 4;

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
