// Which kernels serve a problem on the GPU, in launches of which shape, and
// why. Launchers decide nothing else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "common/cluster.h"
#include "common/integers.h"
#include "common/launch.h"
#include "common/warp.h"
#include "gmm/cuda/tuning.h"
#include "gmm/gmm.h"
#include "gmm/scale_param.h"

namespace vtadl::gmm {

using std::int64_t;

enum class Regime {
  kNothing,  // There are no samples.
  // A group of lanes per sample and component, a row of the Cholesky factor per
  // lane: the substitution exchanges residuals by shuffles.
  kTril,
  // Tiles of samples of one mixture: its parameters are activated once per
  // tile, in shared memory.
  kShared,
  // A group of lanes per sample, whole components per lane: one kernel reads
  // all of a sample once and keeps it in registers, for both passes as well.
  kFewFeatures,
  // A group of lanes per sample and component, features side by side. It reads
  // parameters that are broadcast in any way, twice in both passes.
  kPerSample,
  // The next two replace kPerSample where a call wants both passes at once.
  // A block per sample: the second pass finds mu and scale in the L2 cache.
  kOnePass,
  // A cluster of blocks per sample, which keep mu and scale in shared memory.
  kOnePassCluster,
};

// Elements that 16 bytes hold, the most that a thread loads at once.
template <typename Scalar>
constexpr int kPackSize = 16 / int(sizeof(Scalar));

// --------------------------------------------------------------- conditions

inline bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0) return false;
  }
  return true;
}

// Whether every row of D elements begins at a multiple of 16 bytes, so that
// threads load and store packs.
template <typename Scalar>
bool packs(const GmmProblem& p, std::initializer_list<const void*> pointers) {
  return p.features % kPackSize<Scalar> == 0 && aligned(pointers);
}

// Each component of each sample has parameters of its own.
inline bool is_per_component(const GmmProblem& p,
                             const GmmParameter& parameter) {
  return parameter.rows.repeats == 1 && parameter.components == p.components;
}

// Each feature of each component of each sample has a parameter of its own.
inline bool is_per_feature(const GmmProblem& p, const GmmParameter& parameter) {
  return is_per_component(p, parameter) && parameter.size >= p.features;
}

// A tile of samples is worth the shared memory that its mixture takes.
inline bool is_shared(const GmmProblem& p) {
  return p.mu.rows == p.scale.rows && p.mu.rows.repeats >= kManySamples;
}

// All components of a sample fit the registers of a warp. Doubles, which serve
// checks more than training, are left out: nvcc takes longest for them.
inline bool has_few_features(const GmmProblem& p) {
  return p.dtype != DType::kFloat64 && p.features <= kFewFeatures &&
         p.components <= kComponentsPerLane * kWarp &&
         aligned({p.x, p.mu.data, p.scale.data});
}

inline bool serves_few_features(const GmmForward& p) {
  return has_few_features(p);
}

// The kernel finds the gradients with respect to log N_k itself, from those of
// log_prob.
inline bool serves_few_features(const GmmBackward& p) {
  return has_few_features(p) && p.mixture != Mixture::kNone &&
         aligned({p.grad_x, p.grad_mu, p.grad_scale});
}

// ------------------------------------------------------------------ one pass

// Half of the L2 cache, so that what is written does not displace what will be
// read.
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

// There is a block for every place on the device, and each has its own mixture.
template <typename Scalar>
bool is_for_one_pass(const GmmProblem& p) {
  return p.mixture != Mixture::kNone &&
         p.samples >= kOnePassBlocksPerSm<Scalar> * multiprocessors() &&
         p.mu.rows.repeats == 1 && p.scale.rows.repeats == 1 &&
         fits_l2<Scalar>(p, kBlockThreads);
}

// The gradients that the kernels of the samples write; the others are null.
template <typename Scalar>
struct OwnGrads {
  Scalar* mu;
  Scalar* scale;
};

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

// Declared here, because the plan depends on whether the device has room for a
// cluster of its blocks.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void one_pass_cluster_kernel(GmmForwardBackward p,
                                        OwnGrads<Scalar> grads,
                                        ClusterShape shape, Floor<T> floor);

// Float32 alone: half precision takes longer here than in two passes.
template <typename Scalar>
bool is_for_cluster(const GmmForwardBackward& p) {
  const GmmBackward& b = p.backward;
  return std::is_same_v<Scalar, float> && !p.forward.keeps_components &&
         b.mixture != Mixture::kNone && is_per_feature(b, b.mu) &&
         is_per_feature(b, b.scale) &&
         packs<Scalar>(b, {b.x, b.mu.data, b.scale.data, b.grad_x, b.grad_mu,
                           b.grad_scale});
}

// -------------------------------------------------------- shapes of launches

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

// Few lanes for few components.
inline GroupShape mixing_shape(const GmmProblem& p) {
  return {p.samples,
          power_of_two(divide_up(p.components, kComponentsPerLane), kWarp)};
}

inline int tril_width(const GmmProblem& p) {
  return power_of_two(p.features, int(kMaxTrilFeatures));
}

// Lanes for the features of a component.
inline int feature_width(const GmmProblem& p, int pack) {
  return power_of_two(divide_up(p.features, pack), kWarp);
}

// Several components of a sample, which share what it takes to find it, where
// they leave enough groups for every thread of the device.
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

// Wide tiles, and one component after the other, where the samples alone fill
// the device. Else narrow tiles, and the components side by side, whose parts
// of the gradient of x meet in shared memory.
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

// Samples, and components, that share each element of a parameter.
inline int64_t addends_of(const GmmProblem& p, const GmmParameter& parameter) {
  return parameter.rows.repeats * (p.components / parameter.components);
}

// A block for each component of the parameter: x for the features, y for the
// addends.
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

// A block for each component of the parameter: a group of lanes per addend.
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

// As few threads as fit the L2 cache: small blocks wait for each other less.
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

// More clusters than run at a time: which of them is done first takes the next
// sample.
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

// The smallest cluster of which a multiprocessor holds two blocks, so that one
// loads while the other stores; else the smallest of which it holds one. No
// ranks where there is none.
template <typename Scalar>
ClusterShape choose_cluster(const GmmProblem& p) {
  constexpr std::size_t kReserved = 1024;  // by CUDA, of each block
  const auto kernel = one_pass_cluster_kernel<Scalar>;
  const int most = has_clusters(kernel) ? kMaxCluster : 1;
  for (const int blocks : {2, 1}) {
    for (int ranks = 1; ranks <= most; ranks *= 2) {
      const ClusterShape shape{ranks,
                               static_cast<int>(divide_up(p.components, ranks)),
                               static_cast<int>(p.features)};
      if (blocks * (shape.bytes<Scalar>() + kReserved) <=
              max_shared_bytes() + kReserved &&
          has_room_for_cluster(kernel,
                               cluster_launch_shape<Scalar>(p, shape))) {
        return shape;
      }
    }
  }
  return {};
}

// Components of a tile of the shared regime: each warp has four.
constexpr int kTileComponents = kQuad * kSharedBlockThreads / kWarp;

// Four samples for each thread, unless a row of parameters has fewer samples
// than their tiles.
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

// Threads side by side on the features, kPair each, where a block has no less
// for them; the others have other samples.
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

// ------------------------------------------- gradients that are sums, in slabs

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

// As many slabs as fill the device, of a size that shared memory holds. None
// where no row has enough samples, or the features are too many.
template <typename T>
SlabShape choose_slabs(const GmmProblem& p) {
  const int64_t repeats = p.mu.rows.repeats;
  const int64_t min_size = std::max(2 * p.features, kMinSlab);
  const int64_t max_size = std::max(2 * min_size, kMaxSlab);
  if (repeats < 2 * p.features ||
      slab_bytes<T>(max_size) > max_shared_bytes()) {
    return {};
  }
  const int64_t wanted =
      divide_up(kSlabBlocksPerSm * multiprocessors(),
                p.mu.rows.rows * divide_up(p.components, kQuad));
  const int64_t most = std::max<int64_t>(repeats / min_size, 1);
  return {std::max<int64_t>(divide_up(repeats, max_size),
                            std::clamp<int64_t>(wanted, 1, most))};
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

// ------------------------------------------------------------------ the plan

// How the gradient of a parameter that several addends share is summed.
enum class Summation {
  kTril,      // over samples, for Cholesky factors
  kSlabs,     // over slabs of many samples of one mixture, then over the slabs
  kFeatures,  // over the features of one component of one sample
  kSamples,   // over whatever shares an element, a block for each component
};

// One launch, for the gradients of mu, of scale, or of both where samples and
// components share them alike. What is not wanted here is null.
struct SummedGrads {
  Summation summation;
  GmmParameter parameter;  // mu or scale
  void* grad_mu;
  void* grad_scale;
};

// How the wanted gradients of mu and scale come about. The kernels of the
// samples write those to which no other addend belongs. For all others they
// write the gradients with respect to log N_k, from which later launches sum.
struct GradPlan {
  void* own_mu = nullptr;
  void* own_scale = nullptr;
  SummedGrads summed[2] = {};
  int launches = 0;  // of `summed`
  SlabShape slabs;   // under Summation::kSlabs

  template <typename Scalar>
  OwnGrads<Scalar> own() const {
    return {static_cast<Scalar*>(own_mu), static_cast<Scalar*>(own_scale)};
  }
};

struct Plan {
  Regime regime;
  GradPlan grads;
  ClusterShape cluster;  // under Regime::kOnePassCluster
};

template <typename Problem>
Regime choose_regime(const Problem& p) {
  if (p.samples == 0) return Regime::kNothing;
  if (p.scale_param == ScaleParam::kTril) return Regime::kTril;
  if (is_shared(p)) return Regime::kShared;
  return serves_few_features(p) ? Regime::kFewFeatures : Regime::kPerSample;
}

template <typename T>
GradPlan plan_grads(const GmmBackward& p, Regime regime) {
  GradPlan plan;
  // A lane that has all features of a component sums over them as well.
  const auto is_own = [&](const GmmParameter& parameter) {
    return regime == Regime::kFewFeatures ? is_per_component(p, parameter)
                                          : is_per_feature(p, parameter);
  };
  void *grad_mu = nullptr, *grad_scale = nullptr;
  (is_own(p.mu) ? plan.own_mu : grad_mu) = p.grad_mu;
  (is_own(p.scale) ? plan.own_scale : grad_scale) = p.grad_scale;
  const auto add = [&](Summation summation, const GmmParameter& parameter,
                       void* mu, void* scale) {
    if (parameter.rows.rows * parameter.components == 0) return;
    if (mu || scale) {
      plan.summed[plan.launches++] = {summation, parameter, mu, scale};
    }
  };
  if (regime == Regime::kShared) {
    plan.slabs = choose_slabs<T>(p);
    if (plan.slabs.count > 0) {
      add(Summation::kSlabs, p.mu, grad_mu, grad_scale);
      return plan;
    }
  }
  const auto summation_of = [&](const GmmParameter& parameter) {
    if (regime == Regime::kTril) return Summation::kTril;
    return is_per_component(p, parameter) ? Summation::kFeatures
                                          : Summation::kSamples;
  };
  const bool alike =
      p.mu.rows == p.scale.rows && p.mu.components == p.scale.components;
  if (grad_mu && grad_scale && alike) {
    add(summation_of(p.mu), p.mu, grad_mu, grad_scale);
  } else {
    add(summation_of(p.mu), p.mu, grad_mu, nullptr);
    add(summation_of(p.scale), p.scale, nullptr, grad_scale);
  }
  return plan;
}

// Whether a kernel of the mixing comes after, or before, those of the
// components.
inline bool mixes(const GmmProblem& p) { return p.mixture != Mixture::kNone; }

// Whether there is anything to write for the kernel of the gradients that
// belong to one sample.
inline bool writes_own_grads(const GmmBackward& p, const GradPlan& grads) {
  return p.grad_x || grads.own_mu || grads.own_scale;
}

template <typename Scalar>
Plan plan_backward(const GmmBackward& p) {
  const Regime regime = choose_regime(p);
  return {regime, plan_grads<Accumulate<Scalar>>(p, regime), {}};
}

// Both passes at once. The L2 cache comes first: its kernel takes parameters
// of any size and type. The shared memory of a cluster holds larger mixtures,
// or those of few samples.
template <typename Scalar>
Plan plan_forward_backward(const GmmForwardBackward& p) {
  Plan plan = plan_backward<Scalar>(p.backward);
  if (plan.regime != Regime::kPerSample) return plan;
  if (is_for_one_pass<Scalar>(p.forward)) {
    plan.regime = Regime::kOnePass;
    return plan;
  }
  if constexpr (std::is_same_v<Scalar, float>) {
    if (is_for_cluster<Scalar>(p)) {
      plan.cluster = choose_cluster<Scalar>(p.backward);
      if (plan.cluster.ranks > 0) plan.regime = Regime::kOnePassCluster;
    }
  }
  return plan;
}

}  // namespace vtadl::gmm
