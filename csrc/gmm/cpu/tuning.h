// The tuned constants of the mixture kernels for the CPU.
//
// They were measured on an AMD EPYC (AVX-512, one thread, float32) on
// 2026-11-28, beside other work: differences below 10 % mean nothing. A case
// "R x N x K x D" is R mixtures of K components and D features, each read by N
// samples; "forward / both" are the times of half or double of a constant,
// relative to those of its value.
#pragma once

#include <cstdint>

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// Vectors in a block of samples: as many sums are in flight. 65536 x 1 x 20 x
// 2: half 1.18 / 1.46, double 0.95 / 0.65. 65536 x 1 x 5 x 1: double 1.30 /
// 1.09. 8192 x 1 x 64 x 8: double 0.99 / 1.21.
constexpr int kVectors = 4;

// Vectors of features are used from so many features on. 4096 x 1 x 10 x 12:
// half 3.82 / 2.86. 4096 x 1 x 10 x 24: double 0.70 / 1.26.
constexpr std::int64_t kManyFeatures = 16;

// A mixture is read once for all of its samples, in vectors of samples, from so
// many of them on. 512 x 12 x 32 x 8: half 0.61 forward. 4096 x 8 x 20 x 2:
// half 1.99 forward. 64 x 24 x 32 x 8: double 3.21 forward.
constexpr std::int64_t kManySamples = 16;

// For the gradients, vectors of samples have to add up their lanes: there they
// are as fast as vectors of features from more samples on. 256 x 24 x 32 x 64:
// half 1.13 / 1.62. 256 x 48 x 32 x 64: double 1.07 / 1.03.
constexpr std::int64_t kManySamplesWithGrads = 32;

// A mixture with more parameters is large. Its gradients are summed in vectors
// of samples if it has at least so many samples. 1 x 64 x 64 x 50: half of the
// parameters 1.55 both. 1 x 64 x 64 x 100: double 1.06 both. 1 x 64 x 64 x 200:
// half of the samples 1.42 both. 1 x 128 x 64 x 200: double 1.24 both.
constexpr std::int64_t kLargeMixture = 1 << 12;
constexpr std::int64_t kManySamplesOfLargeMixture = 96;

// One mixture after another keeps all threads busy from so many mixtures on.
// This is a matter of the number of threads: half and double were not measured.
constexpr std::int64_t kLeastMixtures = 16;

// Parameters that are kept activated for a block of samples. 16384 x 1 x 20 x
// 15: half 2.31 / 1.19. 8192 x 1 x 100 x 8: double 0.74 / 1.17.
constexpr std::int64_t kMaxCachedParameters = 512;

// Slabs that the samples of one row of parameters are cut into at most. 1 x
// 65536 x 16 x 8: half 0.97 / 1.03, double 0.99 / 1.04.
constexpr std::int64_t kMaxSlabs = 32;

// Rows of fewer elements are copied one element at a time. 65536 x 1 x 20 x 3:
// half 1.01 / 0.59, double 0.96 / 1.26; a case that neither changes varied as
// much.
constexpr std::int64_t kFewElements = 4;

// Samples whose distances to one component are summed at the same time. 256 x
// 16 x 32 x 64: half 0.88 / 0.97, double 1.00 / 1.01. 256 x 15 x 32 x 128: half
// 1.06 / 0.99, double 1.05 / 1.00.
constexpr int kSamplesInFlight = 4;

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
