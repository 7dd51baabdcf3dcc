// Both passes at once, for samples with mixtures of their own, in float32, that
// the shared memory of a block holds, or that of a cluster of blocks: mu and
// scale are read once. Half precision takes longer here than in two passes.
#pragma once

#include <type_traits>

#include "common/cluster.h"
#include "gmm/cuda/one_pass.h"

namespace vtadl::gmm {

constexpr int kResidentThreads = 512;

// Packs that a thread loads before it uses the first. With two, compilers for
// older GPUs run out of registers, and all do where activation needs the most
// of them.
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

// The blocks of a cluster, and what each holds of a sample.
struct ResidentPlan {
  int ranks;
  int components;  // of a block; the last may have fewer, or none
  int features;

  VTADL_INLINE int elements() const { return components * features; }

  // In shared memory: mu and scale of the block's components, their weights, a
  // number for each thread and element of its packs and, where the cluster has
  // other blocks, a row of sums over the block's components.
  template <typename Scalar, typename T = Accumulate<Scalar>>
  VTADL_INLINE std::size_t bytes() const {
    const std::size_t elements = std::size_t(components) * features;
    const std::size_t sums = ranks == 1 ? 0 : features;
    return 2 * elements * sizeof(Scalar) +
           (components + sums + kPackSize<Scalar> * kResidentThreads) *
               sizeof(T);
  }
};

template <typename Scalar, typename T = Accumulate<Scalar>>
struct ResidentRoom {
  Scalar* mean;
  Scalar* raw_scale;
  T* room;
  T* sums;
  T* weights;

  __device__ explicit ResidentRoom(const ResidentPlan& plan)
      : mean(shared_memory<Scalar>()),
        raw_scale(mean + plan.elements()),
        room(reinterpret_cast<T*>(raw_scale + plan.elements())),
        sums(room + kPackSize<Scalar> * kResidentThreads),
        weights(sums + (plan.ranks == 1 ? 0 : plan.features)) {}
};

// log N_k of components first to first + count, a warp each, whose parameters
// stay in shared memory.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void load_components(const GmmForward& p, int64_t n, int first,
                                int count, const Floor<T>& floor,
                                const ResidentRoom<Scalar>& room) {
  constexpr int kPack = kPackSize<Scalar>;
  const int features = static_cast<int>(p.features);
  const int warps = blockDim.x * blockDim.y / kWarp;
  const int64_t begin = (n * p.components + first) * features;
  const Scalar* x = sample_features<Scalar>(p, n);
  const Scalar* mu = static_cast<const Scalar*>(p.mu.data) + begin;
  const Scalar* scale = static_cast<const Scalar*>(p.scale.data) + begin;
  for (int k = thread_of_block() / kWarp; k < count; k += warps) {
    T log_det = 0, distance = 0;
    with_scale_param(p.scale_param, [&](auto param) {
      VTADL_UNROLL_BY(kPacksAtOnce<decltype(param)::value>)
      for (int d = lane_of(kWarp) * kPack; d < features; d += kWarp * kPack) {
        const int at = k * features + d;
        T value[kPack], mean[kPack], raw[kPack];
        load(x + d, value);
        load(mu + at, mean);
        load(scale + at, raw);
        store(room.mean + at, mean);
        store(room.raw_scale + at, raw);
        VTADL_UNROLL
        for (int j = 0; j < kPack; ++j) {
          const auto of = activate<decltype(param)::value>(raw[j], floor);
          const T z = (value[j] - mean[j]) * of.inverse_std;
          distance += z * z;
          log_det += of.log_std;
        }
      }
    });
    const T log_of_normal =
        log_normal(features, warp_sum(log_det), warp_sum(distance));
    if (lane_of(kWarp) == 0) {
      static_cast<T*>(p.component_log_prob)[n * p.components + first + k] =
          log_of_normal;
    }
  }
}

// log_prob of the sample, and what its components first to first + count weigh
// in the gradients; by one warp, which reads the log N_k of all components.
// `pi`: log Σ exp of the logits.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void weigh_components(const GmmForwardBackward& p, int64_t n,
                                 int first, int count, const LogSumExp<T>& pi,
                                 T* weights) {
  const GmmForward& f = p.forward;
  const Scalar* logits = sample_logits<Scalar>(f, n);
  const T* log_normal =
      static_cast<const T*>(f.component_log_prob) + n * f.components;
  const bool is_weighted = f.mixture == Mixture::kWeighted;
  // What component_grad() wants to know of a component.
  const auto log_prob_of = [&](int64_t k) {
    if (is_weighted) return log_normal[k];
    const T log_pi = pi.log_softmax(static_cast<T>(logits[k]));
    return log_pi == -INFINITY ? log_pi : log_normal[k] + log_pi;
  };
  const T log_prob =
      is_weighted ? group_mean(logits, pi, log_normal, f.components, kWarp)
                  : group_log_sum_exp(f.components, kWarp, log_prob_of).total();
  if (first == 0 && lane_of(kWarp) == 0) {
    static_cast<T*>(f.log_prob)[n] = log_prob;
  }
  const GmmBackward& b = p.backward;
  const T grad = b.grad ? static_cast<const T*>(b.grad)[n]
                        : static_cast<T>(b.constant_grad);
  for (int i = lane_of(kWarp); i < count; i += kWarp) {
    const int64_t k = first + i;
    const auto part =
        component_grad(f.mixture, grad, pi.softmax(static_cast<T>(logits[k])),
                       log_prob_of(k), log_prob);
    weights[i] = part.log_normal;
    if (b.grad_logits) {
      static_cast<T*>(b.grad_logits)[n * f.components + k] = part.logit;
    }
  }
}

// The gradients of the block's components, and for threads with threadIdx.y ==
// 0 its part of that of x: store_sums(d, sums of features d, d + 1, …).
template <typename Scalar, typename T = Accumulate<Scalar>, typename StoreSums>
__device__ void backward_of_components(const GmmBackward& p,
                                       const PrivateGrads<Scalar>& grads,
                                       int64_t n, int first, int count,
                                       const Floor<T>& floor,
                                       const ResidentRoom<Scalar>& room,
                                       const StoreSums& store_sums) {
  constexpr int kPack = kPackSize<Scalar>;
  const int features = static_cast<int>(p.features);
  const int64_t begin = (n * p.components + first) * features;
  for (int first_d = 0; first_d < features; first_d += blockDim.x * kPack) {
    const int d = first_d + threadIdx.x * kPack;
    const bool in_use = d < features;
    T x[kPack] = {}, grad_x[kPack] = {};
    if (in_use) load(sample_features<Scalar>(p, n) + d, x);
    with_scale_param(p.scale_param, [&](auto param) {
      for (int k = threadIdx.y; in_use && k < count; k += blockDim.y) {
        const int at = k * features + d;
        const T weight = room.weights[k];
        T pull[kPack] = {}, stretch[kPack] = {};
        if (weight != 0) {
          T mean[kPack], raw[kPack];
          load(room.mean + at, mean);
          load(room.raw_scale + at, raw);
          differentiate_pack<decltype(param)::value>(
              x, mean, raw, weight, floor, pull, stretch, grad_x);
        }
        if (grads.mu) store<Store::kStreamed>(grads.mu + begin + at, pull);
        if (grads.scale) {
          store<Store::kStreamed>(grads.scale + begin + at, stretch);
        }
      }
    });
    if (!p.grad_x) continue;
    sum_over_y(grad_x, room.room);
    if (in_use && threadIdx.y == 0) store_sums(d, grad_x);
  }
}

// A cluster per sample, whose blocks share its components: each finds log N_k
// of its own, then the weights of these from those of all, then the gradients.
// Moves 4 U + 4 N·K elements. Half of the threads that a multiprocessor holds,
// in two blocks where the cluster is large enough: one loads while the other
// stores.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kResidentThreads, 2)
    resident_kernel(GmmForwardBackward p, PrivateGrads<Scalar> grads,
                    ResidentPlan plan, Floor<T> floor) {
  const GmmBackward& b = p.backward;
  const ResidentRoom<Scalar> room(plan);
  const int rank = cluster_rank(), components = int(b.components);
  const int first = min(rank * plan.components, components);
  const int count = min(plan.components, components - first);
  T* const grad_x = static_cast<T*>(b.grad_x);
  // The last warp, which may have a component less to load.
  const bool mixes = thread_of_block() >= int(blockDim.x * blockDim.y) - kWarp;
  for (int64_t n = blockIdx.x / plan.ranks; n < b.samples;
       n += gridDim.x / plan.ranks) {
    LogSumExp<T> pi{};
    if (mixes) {
      pi = group_log_sum_exp(sample_logits<Scalar>(p.forward, n), components,
                             kWarp);
    }
    load_components(p.forward, n, first, count, floor, room);
    cluster_sync();
    if (mixes) {
      weigh_components<Scalar>(p, n, first, count, pi, room.weights);
    }
    __syncthreads();
    backward_of_components(
        b, grads, n, first, count, floor, room,
        [&](int d, const T(&of_block)[kPackSize<Scalar>]) {
          store(plan.ranks == 1 ? grad_x + n * b.features + d : room.sums + d,
                of_block);
        });
    if (plan.ranks == 1) {
      __syncthreads();  // the next round writes where this one reads
      continue;
    }
    // The next sums are written behind the next round's first barrier.
    cluster_sync();
    for (int d = thread_of_block(); rank == 0 && grad_x && d < plan.features;
         d += blockDim.x * blockDim.y) {
      grad_x[n * b.features + d] = cluster_sum(room.sums, d, plan.ranks);
    }
  }
  cluster_sync();  // no block leaves whose memory another reads
}

// ----------------------------------------------------------------- launchers

// More clusters than run at a time: which of them is done first takes the next
// sample.
template <typename Scalar>
LaunchShape resident_shape(const GmmProblem& p, const ResidentPlan& plan) {
  const int x =
      power_of_two(p.features / kPackSize<Scalar>, kResidentThreads / 2);
  const int64_t clusters = std::min<int64_t>(
      p.samples, divide_up(8 * multiprocessors(), plan.ranks));
  LaunchShape shape{grid_size(clusters * plan.ranks),
                    dim3(x, kResidentThreads / x), plan.bytes<Scalar>()};
  shape.cluster = plan.ranks;
  return shape;
}

template <typename Scalar>
bool has_room(const GmmProblem& p, const ResidentPlan& plan, int blocks) {
  constexpr std::size_t kReserved = 1024;  // of each block
  return blocks * (plan.bytes<Scalar>() + kReserved) <=
             max_shared_bytes() + kReserved &&
         fits_cluster(resident_kernel<Scalar>, resident_shape<Scalar>(p, plan));
}

template <typename Scalar>
bool is_for_resident(const GmmForwardBackward& p) {
  const GmmBackward& q = p.backward;
  const PrivateGrads<Scalar> grads(q);
  return !p.forward.keeps_components && q.mixture != Mixture::kNone &&
         is_private(q, q.mu) && is_private(q, q.scale) &&
         packs<Scalar>(q, {q.x, q.mu.data, q.scale.data, q.grad_x, grads.mu,
                           grads.scale});
}

// No ranks where the kernel is not for the problem, or has no room on the
// device.
template <typename Scalar>
ResidentPlan resident_plan(const GmmForwardBackward& p) {
  if constexpr (std::is_same_v<Scalar, float>) {
    if (!is_for_resident<Scalar>(p)) return {};
    const GmmBackward& q = p.backward;
    const int most = has_clusters(resident_kernel<Scalar>) ? kMaxCluster : 1;
    for (const int blocks : {2, 1}) {  // of a multiprocessor
      for (int ranks = 1; ranks <= most; ranks *= 2) {
        const ResidentPlan plan{
            ranks, static_cast<int>(divide_up(q.components, ranks)),
            static_cast<int>(q.features)};
        if (has_room<Scalar>(q, plan, blocks)) return plan;
      }
    }
  }
  return {};
}

template <typename Scalar>
void resident_passes(const GmmForwardBackward& p, const ResidentPlan& plan,
                     void* stream) {
  if constexpr (std::is_same_v<Scalar, float>) {
    const GmmBackward& q = p.backward;
    launch("gmm resident_kernel", resident_kernel<Scalar>,
           resident_shape<Scalar>(q, plan), stream, p, PrivateGrads<Scalar>(q),
           plan, Floor<Accumulate<Scalar>>(q.min_std));
  }
}

}  // namespace vtadl::gmm
