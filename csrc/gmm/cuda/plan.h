// Which kernels serve a problem on the GPU, and why. The shapes of their
// launches are in shapes.h. Launchers choose between instances of one kernel:
// packs or single elements, large or small tiles.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "common/cluster.h"
#include "common/integers.h"
#include "common/launch.h"
#include "common/warp.h"
#include "gmm/cuda/shapes.h"
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
  return p.dtype != DType::kFloat64 && p.features <= kMaxFewFeatures &&
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

// ---------------------------------------------------- both passes at once

// Both passes are made at once where the samples suffice for all blocks that
// the device holds, and each has its own mixture.
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

// The kernel is declared here, because the plan depends on whether the device
// has room for a cluster of its blocks.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void one_pass_cluster_kernel(GmmForwardBackward p,
                                        OwnGrads<Scalar> grads,
                                        ClusterShape shape, Floor<T> floor);

// The kernel serves float32 alone: half precision takes longer in it than in
// two passes.
template <typename Scalar>
bool is_for_cluster(const GmmForwardBackward& p) {
  const GmmBackward& b = p.backward;
  return std::is_same_v<Scalar, float> && !p.forward.keeps_components &&
         b.mixture != Mixture::kNone && is_per_feature(b, b.mu) &&
         is_per_feature(b, b.scale) &&
         packs<Scalar>(b, {b.x, b.mu.data, b.scale.data, b.grad_x, b.grad_mu,
                           b.grad_scale});
}

// Chooses the smallest cluster of which a multiprocessor holds two blocks, so
// that one loads while the other stores; else the smallest of which it holds
// one. The result has no ranks where there is none.
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
          fits_cluster(kernel, cluster_launch_shape<Scalar>(p, shape))) {
        return shape;
      }
    }
  }
  return {};
}

// ------------------------------------------------- gradients of parameters

// Chooses as many slabs as fill the device, of a size that shared memory holds.
// There are none where no row has enough samples, or the features are too many.
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

// How the gradient of a parameter that several addends share is summed.
enum class Summation {
  kTril,      // over samples, for Cholesky factors
  kSlabs,     // over slabs of many samples of one mixture, then over the slabs
  kFeatures,  // over the features of one component of one sample
  kSamples,   // over whatever shares an element, a block for each component
};

// One launch sums the gradients of mu, of scale, or of both where samples and
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

template <typename T>
GradPlan plan_grads(const GmmBackward& p, Regime regime) {
  GradPlan plan;
  // A lane that has all features of a component sums over them itself.
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
    if (p.scale_param == ScaleParam::kTril) return Summation::kTril;
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

// ------------------------------------------------------------------ the plan

struct Plan {
  Regime regime;
  GradPlan grads;
  ClusterShape cluster;  // under Regime::kOnePassCluster
  // The forward pass has this regime where it runs before the backward pass.
  Regime forward = Regime::kNothing;
};

template <typename Problem>
Regime choose_regime(const Problem& p) {
  if (p.samples == 0) return Regime::kNothing;
  if (p.scale_param == ScaleParam::kTril) return Regime::kTril;
  if (is_shared(p)) return Regime::kShared;
  return serves_few_features(p) ? Regime::kFewFeatures : Regime::kPerSample;
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

// Plans both passes at once. The L2 cache comes first: its kernel takes
// parameters of any size and type. The shared memory of a cluster holds larger
// mixtures, or those of few samples.
template <typename Scalar>
Plan plan_forward_backward(const GmmForwardBackward& p) {
  Plan plan = plan_backward<Scalar>(p.backward);
  plan.forward = choose_regime(p.forward);
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
