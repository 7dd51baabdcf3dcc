// The constants of the mixture kernels for the GPU that were tuned, or that
// follow from the registers and the shared memory of a multiprocessor.
//
// Each says since when it has its value, and a case of `python -m benchmarks`
// that it decides. With these values the cases were measured on an NVIDIA H100
// (80 GB, PyTorch 2.11) on 2026-11-27 (benchmarks/results/nvidia-h100); times
// below are from there. No record says on which GPU the values of 2026-11-24
// were chosen, or what half and double of any value cost: "not measured". What
// the compiler makes of half and double is said instead: registers of a thread
// and bytes that spill, in float32, by nvcc 13.0 on 2026-11-28 for compute
// capability 9.0, and in brackets for 8.6.
#pragma once

#include <cstdint>

#include "gmm/scale_param.h"

namespace vtadl::gmm {

using std::int64_t;

// -------------------------------------------------------------- per sample

// Threads of a block, unless a regime has its own. Since 2026-11-24; case "wide
// head" (512 x 150 x 512, float32: 139 µs forward). Half and double were not
// measured. A multiprocessor holds as many threads either way, in blocks of
// half or double the number.
constexpr int kBlockThreads = 256;

// Blocks of which a multiprocessor holds the registers: half of its threads in
// float32, 3/8 in half precision, where a thread works on 8 elements, and 1/4
// with doubles. Since 2026-11-24; case "wide head". Half and double were not
// measured. The three kernels need 54 to 63 registers (52 to 62 on 8.6). Half
// lets the forward kernel have 80 (72), and a multiprocessor then holds three
// of its blocks. Double leaves 32 registers on 9.0, and 120 to 232 bytes spill.
template <typename Scalar>
constexpr int kBlocksPerSm = sizeof(Scalar) == 4   ? 4
                             : sizeof(Scalar) == 8 ? 2
                                                   : 3;

// The launches of the per-sample regime have enough threads to fill the device
// so many times: where samples are few, tiles are narrow and groups have few
// components. Since 2026-11-24; case "wide head". Half and double were not
// measured.
constexpr int kWaves = 2;

// The most components of a sample that a group of lanes computes one after the
// other. Since 2026-11-27; case "wide head, 2048 patches" (2048 x 150 x 512,
// float32: 460 µs forward, 90 % of the bandwidth). Half and double were not
// measured. The components share what it takes to find the sample.
constexpr int64_t kMostComponentsPerGroup = 8;

// The least and the most packs of a tile of the backward kernel, side by side.
// Since 2026-11-24; case "wide head". Half and double were not measured. The
// least is 128 bytes of a row, a line of the cache: half would read each line
// in two tiles. The most are half of a block's threads.
constexpr int64_t kMinColumns = 8, kMaxColumns = 128;

// Addends of a thread that sums the gradient of a shared parameter. Since
// 2026-11-27; case "mixture per position" (16 x 256 x 32 x 64: 16 samples for
// each of 256 mixtures). Half and double were not measured. Half doubles the
// threads that meet in shared memory; double leaves more of the device idle
// where few samples share.
constexpr int64_t kAddendsPerThread = 8;

// ------------------------------------------------------------------ one pass

// Blocks of the kernel for both passes of which a multiprocessor holds the
// registers. Since 2026-11-24; case "narrow head" (512 x 10 x 512). Half and
// double were not measured. The kernel needs 68 registers (61 on 8.6), in half
// precision 94 (85). With half a thread needs no fewer. Double leaves 40, and
// 16 bytes (20) spill.
template <typename Scalar>
constexpr int kOnePassBlocksPerSm = sizeof(Scalar) == 4 ? 3 : 2;

// A block is halved as long as each of its threads then has no more than so
// many packs of mu. Since 2026-11-27; case "narrow head". Half and double were
// not measured.
constexpr int kPacksPerThread = 4;

// The mixtures in flight take one part in so many of the L2 cache. Since
// 2026-11-24; case "narrow head". Half and double were not measured. All of the
// cache (1) leaves no place for the gradients, which are as large as mu and
// scale; a quarter (4) sends more shapes to two passes, which read mu and scale
// twice.
constexpr int kL2Share = 2;

// ---------------------------------------------------------- one pass, cluster

// Threads of a block. Since 2026-11-27; case "wide head, 2048 patches" (1269 µs
// with gradients, 63 % of the bandwidth). Half and double were not measured.
// The kernel needs 64 registers (63 on 8.6), all that two blocks leave. Two
// blocks of half the threads are a quarter of those that a multiprocessor
// holds, with 96 registers (69) each; two of double leave 32 registers, and 128
// bytes spill.
constexpr int kClusterBlockThreads = 512;

// Packs that a thread loads before it uses the first. Since 2026-11-27; case
// "wide head, 2048 patches". Half and double were not measured. On 9.0 half
// needs 63 registers. With double, or with two packs of the other
// parametrisations, whose activation needs more registers, 4 bytes spill. On
// older GPUs two packs spilled on 2026-11-27; for 8.6 they no longer do, but
// nobody has measured them there.
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

// Blocks of the grid for each multiprocessor, of which two run at a time. Since
// 2026-11-27; case "wide head, 2048 patches". Half and double were not
// measured. Each block takes the next sample when it is done: with fewer the
// last ones leave more of the device idle, and each more costs a start.
constexpr int kClusterGridPerSm = 8;

// -------------------------------------------------------------- few features

// Features of a sample that a lane keeps in registers for each component. The
// regime serves no more. Since 2026-11-24; case "handwriting" (65536 x 20 x 2,
// float32: 42 µs forward). Half and double were not measured. The kernel with
// gradients needs 108 registers for 4 features, and 167 for 8, of which a
// multiprocessor holds one block of 256 threads instead of two.
constexpr int kMaxFewFeatures = 4;

// Components of a sample that a lane has at most, where a warp suffices for
// them; the same number decides how many lanes the mixing takes. Since
// 2026-11-24; cases "handwriting" and "world model" (65536 x 5 x 1). Half and
// double were not measured. The kernel with gradients of 4 features needs 80
// registers with half (3 blocks instead of 2), and 168 with double (1 block).
constexpr int kComponentsPerLane = 4;

// ------------------------------------------------------------------- shared

// From so many samples on that read the same mixture it is read once for a tile
// of them. Since 2026-11-24; case "mixture per position", which has 16 and is
// left to the per-sample regime. Half and double were not measured. Half fills
// half of the smallest tile's lanes.
constexpr int64_t kManySamples = 32;

// Threads of a block. Since 2026-11-24; case "shared mixture" (16384 x 64 x 64,
// float32: 99 µs forward). Half and double were not measured. A tile has four
// components for each warp, 16: half reads x once for every 8 components,
// double once for every 32.
constexpr int kSharedBlockThreads = 128;

// Blocks of which a multiprocessor holds the registers: 128 for each thread.
// Since 2026-11-24; case "shared mixture". Half and double were not measured.
// The three kernels need 78 to 86 registers (72 to 90 on 8.6), so half changes
// the last one alone, to 96. Double leaves 64, and up to 64 bytes spill.
constexpr int kSharedBlocksPerSm = 4;

// Components, or samples, that a thread has at a time: four of each in the
// forward kernel. Since 2026-11-24; case "shared mixture". Half and double were
// not measured. Half needs 61 to 78 registers, and reads shared memory twice as
// often for each product. Double needs 94 to 128, all that four blocks leave,
// and the forward kernel 48 KB of shared memory instead of 24 KB.
constexpr int kQuad = 4;

// Features that a thread has at a time in the backward kernels. Since
// 2026-11-24; case "shared mixture". Half and double were not measured. The two
// kernels need 78 and 86 registers (76 and 90 on 8.6); half needs 66 and 78 (64
// and 72), and reads the gradients in shared memory twice as often for each
// product. Double needs 96 and 126, which four blocks still have.
constexpr int kPair = 2;

// Bytes of each sample, and of each component, in a tile of the forward kernel.
// Since 2026-11-24; case "shared mixture". Half and double were not measured. A
// block has 24 KB of shared memory; with half 13 KB, and twice the barriers.
// With double it has 47 KB, of which compute capability 8.6 holds two blocks
// instead of four.
constexpr int kTileFeatureBytes = 128;

// Components of a tile of the kernel for the gradient of x. Since 2026-11-24;
// case "shared mixture". Half and double were not measured. A block has 24 KB
// of shared memory; with half 14 KB, and twice the barriers. With double it has
// 44 KB, of which compute capability 8.6 holds two blocks instead of four.
constexpr int kTileComponentsOfX = 8;

// The least and the most samples of a slab, unless the features are so many
// that it needs more. Since 2026-11-24; case "shared mixture". Half and double
// were not measured. The most take 25 KB of shared memory in float32, of which
// compute capability 8.6 holds three blocks; half takes 13 KB, and double 49
// KB, of which it holds two. Half of the least doubles the sums that are
// written, 2 D for each component.
constexpr int64_t kMinSlab = 256, kMaxSlab = 1024;

// Blocks for each multiprocessor that slabs are cut into, where the samples
// suffice for them; three to five run at a time. Since 2026-11-24; case "shared
// mixture". Half and double were not measured.
constexpr int64_t kSlabBlocksPerSm = 8;

}  // namespace vtadl::gmm
