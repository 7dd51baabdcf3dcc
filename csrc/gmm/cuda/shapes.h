// The shapes of the kernels' launches, and why.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/dispatch.h"
#include "common/integers.h"
#include "common/launch.h"
#include "common/warp.h"
#include "gmm/cuda/tuning.h"
#include "gmm/gmm.h"

namespace vtadl::gmm {

using std::int64_t;

// Elements that 16 bytes hold, the most that a thread loads at once.
template <typename Scalar>
constexpr int kPackSize = 16 / int(sizeof(Scalar));

// The smallest power of two that is at least `wanted`, but at most `limit`,
// which is one too.
inline int power_of_two(int64_t wanted, int limit) {
  int result = 1;
  while (result < wanted && result < limit) result *= 2;
  return result;
}

inline unsigned grid_size(int64_t blocks) {
  return static_cast<unsigned>(std::clamp<int64_t>(blocks, 1, kMaxBlocks));
}

// Threads that fill the device `kWaves` times.
inline int64_t wanted_threads() {
  return kWaves * multiprocessors() *
         device_attribute(cudaDevAttrMaxThreadsPerMultiProcessor);
}

// A group of `width` lanes for each item.
struct GroupShape {
  int width;
  LaunchShape launch;

  GroupShape(int64_t items, int width)
      : width(width),
        launch{grid_size(divide_up(items * width, kBlockThreads)),
               kBlockThreads} {}
};

// A sample with few components has few lanes.
inline GroupShape mixing_shape(const GmmProblem& p) {
  return {p.samples,
          power_of_two(divide_up(p.components, kComponentsPerLane), kWarp)};
}

inline int tril_width(const GmmProblem& p) {
  return power_of_two(p.features, int(kMaxTrilFeatures));
}

// The lanes that share the features of a component.
inline int feature_width(const GmmProblem& p, int pack) {
  return power_of_two(divide_up(p.features, pack), kWarp);
}

// ------------------------------------------------------- regime: per sample

// A group has several components of a sample, which share what it takes to find
// it, where that leaves enough groups for all threads of the device.
inline int components_per_group(const GmmProblem& p, int width) {
  const int64_t threads = p.samples * width * p.components;
  return static_cast<int>(std::clamp<int64_t>(threads / wanted_threads(), 1,
                                              kMostComponentsPerGroup));
}

// The block of per_sample_backward_kernel, and the tiles that it cuts the
// features into.
struct TiledShape {
  int64_t tiles;
  LaunchShape launch;
};

// Where the samples alone fill the device, tiles are wide, and a thread has one
// component after the other. Else tiles are narrow, and the components side by
// side; their parts of the gradient of x meet in shared memory.
template <typename Scalar>
TiledShape per_sample_backward_shape(const GmmProblem& p, int pack) {
  const int64_t columns = divide_up(p.features, pack);
  const int64_t wanted = wanted_threads();
  int64_t x = kMaxColumns;
  while (x > kMinColumns &&
         p.samples * divide_up(columns, x) * kBlockThreads < wanted) {
    x /= 2;
  }
  const int64_t tiles = divide_up(columns, x);
  x = divide_up(columns, tiles);
  int y = 1;
  while (y < p.components && x * y * 2 <= kBlockThreads &&
         (x * y < kWarp || p.samples * tiles * x * y < wanted)) {
    y *= 2;
  }
  const auto z =
      std::clamp<int64_t>(kBlockThreads / (x * y), 1, 64);  // CUDA's limit
  const std::size_t smem_bytes =
      y == 1 ? 0 : sizeof(Accumulate<Scalar>) * pack * x * y * z;
  return {
      tiles,
      {grid_size(divide_up(p.samples * tiles, z)), dim3(x, y, z), smem_bytes}};
}

// ------------------------------------------- both passes of a sample at once

// Only a part of the L2 cache is used, so that what is written does not
// displace what will be read.
inline int64_t usable_l2_bytes() {
  return device_attribute(cudaDevAttrL2CacheSize) / kL2Share;
}

// Whether the mixtures of all samples in flight fit the L2 cache, where each
// block of so many threads works on one.
template <typename Scalar>
bool fits_l2(const GmmProblem& p, int threads) {
  constexpr int kMostBlocks = 32;  // that a multiprocessor holds
  const int64_t blocks =
      multiprocessors() *
      std::min(kOnePassBlocksPerSm<Scalar> * kBlockThreads / threads,
               kMostBlocks);
  const int64_t mixture_bytes =
      int64_t(sizeof(Scalar)) * p.components * (p.mu.size + p.scale.size);
  return blocks * mixture_bytes <= usable_l2_bytes();
}

// A block has as few threads as still fit the L2 cache, because the threads of
// small blocks wait less for each other.
template <typename Scalar>
LaunchShape one_pass_shape(const GmmProblem& p, int pack) {
  const int64_t columns = divide_up(p.features, pack);
  int threads = kBlockThreads;
  while (threads > kWarp &&
         threads / 2 * kPacksPerThread >= p.components * columns &&
         fits_l2<Scalar>(p, threads / 2)) {
    threads /= 2;
  }
  const int x = power_of_two(columns, threads / 2);
  return {grid_size(p.samples), dim3(x, threads / x),
          sizeof(Accumulate<Scalar>) * pack * threads};
}

// The blocks of a cluster, and what each holds of a sample.
struct ClusterShape {
  int ranks;
  int components;  // of a block; the last may have fewer, or none
  int features;

  VTADL_INLINE int elements() const { return components * features; }

  // Shared memory holds mu and scale of the block's components, their gradients
  // with respect to log N_k, a number for each thread and element of its packs
  // and, where the cluster has other blocks, a row of sums over the block's
  // components.
  template <typename Scalar, typename T = Accumulate<Scalar>>
  VTADL_INLINE std::size_t bytes() const {
    const std::size_t elements = std::size_t(components) * features;
    const std::size_t sums = ranks == 1 ? 0 : features;
    return 2 * elements * sizeof(Scalar) +
           (components + sums + kPackSize<Scalar> * kClusterBlockThreads) *
               sizeof(T);
  }
};

// The grid has more clusters than run at a time: each that is done makes place
// for the next.
template <typename Scalar>
LaunchShape cluster_launch_shape(const GmmProblem& p,
                                 const ClusterShape& cluster) {
  const int x =
      power_of_two(p.features / kPackSize<Scalar>, kClusterBlockThreads / 2);
  const int64_t clusters = std::min<int64_t>(
      p.samples,
      divide_up(kClusterGridPerSm * multiprocessors(), cluster.ranks));
  LaunchShape shape{grid_size(clusters * cluster.ranks),
                    dim3(x, kClusterBlockThreads / x), cluster.bytes<Scalar>()};
  shape.cluster = cluster.ranks;
  return shape;
}

// ------------------------------------------- one mixture for many samples

// Components of a tile of the shared regime: each warp has four.
constexpr int kTileComponents = kQuad * kSharedBlockThreads / kWarp;

// A thread has four samples, unless a row of parameters has fewer than a tile
// of these.
inline bool fills_large_tiles(const GmmProblem& p) {
  return p.mu.rows.repeats >= kWarp * kQuad;
}

// A block per tile, with so many samples for each thread.
inline LaunchShape shared_forward_shape(const GmmProblem& p,
                                        int samples_per_thread,
                                        std::size_t smem_bytes) {
  const RowMap& rows = p.mu.rows;
  const int64_t tiles = rows.rows *
                        divide_up(rows.repeats, kWarp * samples_per_thread) *
                        divide_up(p.components, kTileComponents);
  return {grid_size(tiles), kSharedBlockThreads, smem_bytes};
}

// So many threads are side by side on the features, kPair each; the others have
// other samples.
inline int shared_columns(const GmmProblem& p, int most) {
  return power_of_two(divide_up(p.features, kPair), most);
}

inline LaunchShape shared_x_shape(const GmmProblem& p, int columns,
                                  std::size_t smem_bytes) {
  const RowMap& rows = p.mu.rows;
  const int64_t tiles =
      rows.rows *
      divide_up(rows.repeats, kQuad * kSharedBlockThreads / columns) *
      divide_up(p.features, kPair * columns);
  return {grid_size(tiles), kSharedBlockThreads, smem_bytes};
}

// The samples of each row of parameters in `count` slabs. The sums over one
// slab, 2 D numbers for each component, replace its gradients with respect to
// log N_k, when nobody needs these any more: a slab has at least 2 D samples.
struct SlabShape {
  int64_t count = 0;

  VTADL_INLINE int64_t begin(int64_t slab, int64_t repeats) const {
    return repeats / count * slab + smaller(slab, repeats % count);
  }
  VTADL_INLINE int64_t max_size(int64_t repeats) const {
    return divide_up(repeats, count);
  }
};

// Shared memory of a block that sums over a slab of so many samples.
template <typename T>
std::size_t slab_bytes(int64_t samples) {
  return sizeof(T) * (kSharedBlockThreads + kQuad * samples) +
         sizeof(int64_t) * samples;
}

// A block per slab and four components.
template <typename T>
LaunchShape slab_sums_shape(const GmmProblem& p, const SlabShape& slabs) {
  const RowMap& rows = p.mu.rows;
  return {grid_size(rows.rows * slabs.count * divide_up(p.components, kQuad)),
          kSharedBlockThreads, slab_bytes<T>(slabs.max_size(rows.repeats))};
}

// A group of lanes per element of the parameter, for the sums of all slabs.
inline GroupShape slab_total_shape(const GmmProblem& p, const SlabShape& slabs,
                                   const GmmParameter& parameter) {
  const int64_t addends = slabs.count * (p.components / parameter.components) *
                          (p.features / parameter.size);
  return {parameter.numel(), power_of_two(addends, kWarp)};
}

// ------------------------------------------------- gradients that are sums

// The number of samples and components that share an element of a parameter.
inline int64_t addends_of(const GmmProblem& p, const GmmParameter& parameter) {
  return parameter.rows.repeats * (p.components / parameter.components);
}

// A block serves a component of the parameter: its x walks over the features,
// its y over the addends.
template <typename T>
LaunchShape sample_sums_shape(const GmmProblem& p,
                              const GmmParameter& parameter) {
  const int x = power_of_two(p.features, kBlockThreads / 2);
  const int y =
      power_of_two(divide_up(addends_of(p, parameter), kAddendsPerThread),
                   kBlockThreads / x);
  return {grid_size(parameter.rows.rows * parameter.components), dim3(x, y),
          x * y * sizeof(T)};
}

// A block serves a component of the parameter, with a group of lanes per
// addend.
template <typename T>
LaunchShape tril_sums_shape(const GmmProblem& p,
                            const GmmParameter& parameter) {
  const int width = tril_width(p);
  const int groups =
      power_of_two(addends_of(p, parameter), kBlockThreads / width);
  const int threads = std::max(groups * width, kWarp);
  return {grid_size(parameter.rows.rows * parameter.components), threads,
          threads * sizeof(T)};
}

}  // namespace vtadl::gmm
