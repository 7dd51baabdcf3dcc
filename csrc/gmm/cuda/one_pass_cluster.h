// Both passes at once, for samples with mixtures of their own that the shared
// memory of a block, or that of a cluster of blocks, holds: mu and scale are
// read once.
#pragma once

#include <stdexcept>
#include <type_traits>

#include "common/cluster.h"
#include "gmm/cuda/mixing.h"
#include "gmm/cuda/per_sample.h"

namespace vtadl::gmm {

// A block holds this in shared memory; ClusterShape::bytes() says how much it
// is.
template <typename Scalar, typename T = Accumulate<Scalar>>
struct ClusterSmem {
  Scalar* mean;
  Scalar* raw_scale;
  T* packs;   // a pack for each thread
  T* grad_x;  // sums over the block's components
  T* grads;   // with respect to log N_k

  __device__ explicit ClusterSmem(const ClusterShape& shape)
      : mean(shared_memory<Scalar>()),
        raw_scale(mean + shape.elements()),
        packs(reinterpret_cast<T*>(raw_scale + shape.elements())),
        grad_x(packs + kPackSize<Scalar> * kClusterBlockThreads),
        grads(grad_x + (shape.ranks == 1 ? 0 : shape.features)) {}
};

// Writes log N_k of components first to first + count, by a warp each, and
// leaves their parameters in shared memory.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void load_components(const GmmForward& p, int64_t n, int first,
                                int count, const Floor<T>& floor,
                                const ClusterSmem<Scalar>& smem) {
  constexpr int kPack = kPackSize<Scalar>;
  const int features = static_cast<int>(p.features);
  const int warps = blockDim.x * blockDim.y / kWarp;
  const int64_t begin = (n * p.components + first) * features;
  const Scalar* x = sample_features<Scalar>(p, n);
  const Scalar* mu = static_cast<const Scalar*>(p.mu.data) + begin;
  const Scalar* scale = static_cast<const Scalar*>(p.scale.data) + begin;
  for (int k = thread_of_block() / kWarp; k < count; k += warps) {
    LogNormalSums<T> sums;
    with_scale_param(p.scale_param, [&](auto param) {
      VTADL_UNROLL_BY(kPacksAtOnce<decltype(param)::value>)
      for (int d = lane_of(kWarp) * kPack; d < features; d += kWarp * kPack) {
        const int at = k * features + d;
        T value[kPack], mean[kPack], raw[kPack];
        load(x + d, value);
        load(mu + at, mean);
        load(scale + at, raw);
        store(smem.mean + at, mean);
        store(smem.raw_scale + at, raw);
        sums.template add<decltype(param)::value>(value, mean, raw, floor);
      }
    });
    const T log_normal = sums.log_normal(features, kWarp);
    if (lane_of(kWarp) == 0) {
      static_cast<T*>(p.component_log_prob)[n * p.components + first + k] =
          log_normal;
    }
  }
}

// Writes log_prob of the sample, and the gradients with respect to log N_k and
// logits_k of components first to first + count. One warp calls it, which reads
// the log N_k of all components. `logits_lse` is log Σ exp of the logits.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void mix_components(const GmmForwardBackward& p, int64_t n,
                               int first, int count,
                               const LogSumExp<T>& logits_lse, T* grads) {
  const GmmForward& f = p.forward;
  const Scalar* logits = sample_logits<Scalar>(f, n);
  const T* log_normal =
      static_cast<const T*>(f.component_log_prob) + n * f.components;
  const bool is_weighted = f.mixture == Mixture::kWeighted;
  const auto component_log_prob = [&](int64_t k) {
    if (is_weighted) return log_normal[k];
    return joint_log_prob(logits_lse.log_softmax(static_cast<T>(logits[k])),
                          log_normal[k]);
  };
  const T log_prob =
      is_weighted
          ? group_expected_log_normal(logits, logits_lse, log_normal,
                                      f.components, kWarp)
          : group_log_sum_exp(f.components, kWarp, component_log_prob).total();
  if (first == 0 && lane_of(kWarp) == 0) {
    static_cast<T*>(f.log_prob)[n] = log_prob;
  }
  const GmmBackward& b = p.backward;
  const T grad = log_prob_grad<T>(b, n);
  for (int i = lane_of(kWarp); i < count; i += kWarp) {
    const int64_t k = first + i;
    const auto part = component_grad(
        f.mixture, grad, logits_lse.softmax(static_cast<T>(logits[k])),
        component_log_prob(k), log_prob);
    grads[i] = part.log_normal;
    if (b.grad_logits) {
      static_cast<T*>(b.grad_logits)[n * f.components + k] = part.logit;
    }
  }
}

// Writes the gradients of the block's components. Threads with threadIdx.y == 0
// call store_sums(d, sums of features d, d + 1, …) for its part of the gradient
// of x.
template <typename Scalar, typename T = Accumulate<Scalar>, typename StoreSums>
__device__ void backward_of_components(const GmmBackward& p,
                                       const OwnGrads<Scalar>& own, int64_t n,
                                       int first, int count,
                                       const Floor<T>& floor,
                                       const ClusterSmem<Scalar>& smem,
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
        const T grad = smem.grads[k];
        T grad_mean[kPack] = {}, grad_scale[kPack] = {};
        if (grad != 0) {
          T mean[kPack], raw[kPack];
          load(smem.mean + at, mean);
          load(smem.raw_scale + at, raw);
          differentiate_pack<decltype(param)::value>(
              x, mean, raw, grad, floor, grad_mean, grad_scale, grad_x);
        }
        if (own.mu) store<Store::kStreamed>(own.mu + begin + at, grad_mean);
        if (own.scale) {
          store<Store::kStreamed>(own.scale + begin + at, grad_scale);
        }
      }
    });
    if (!p.grad_x) continue;
    sum_over_y(grad_x, smem.packs);
    if (in_use && threadIdx.y == 0) store_sums(d, grad_x);
  }
}

// A cluster per sample, whose blocks share its components: each finds log N_k
// of its own, then the gradients with respect to these from log N_k of all,
// then the other gradients. The kernel moves 4 U + 4 N·K elements. Half of the
// threads that a multiprocessor holds are resident, in two blocks where the
// cluster is large enough: one loads while the other stores.
template <typename Scalar, typename T>
__global__ void __launch_bounds__(kClusterBlockThreads, 2)
    one_pass_cluster_kernel(GmmForwardBackward p, OwnGrads<Scalar> own,
                            ClusterShape shape, Floor<T> floor) {
  const GmmBackward& b = p.backward;
  const ClusterSmem<Scalar> smem(shape);
  const int rank = cluster_rank(), components = int(b.components);
  const int first = min(rank * shape.components, components);
  const int count = min(shape.components, components - first);
  T* const grad_x = static_cast<T*>(b.grad_x);
  // The last warp, which may have a component less to load.
  const bool mixes = thread_of_block() >= int(blockDim.x * blockDim.y) - kWarp;
  for (int64_t n = blockIdx.x / shape.ranks; n < b.samples;
       n += gridDim.x / shape.ranks) {
    LogSumExp<T> logits_lse{};
    if (mixes) {
      logits_lse = group_log_sum_exp(sample_logits<Scalar>(p.forward, n),
                                     components, kWarp);
    }
    load_components(p.forward, n, first, count, floor, smem);
    cluster_sync();
    if (mixes) {
      mix_components<Scalar>(p, n, first, count, logits_lse, smem.grads);
    }
    __syncthreads();
    backward_of_components(b, own, n, first, count, floor, smem,
                           [&](int d, const T(&of_block)[kPackSize<Scalar>]) {
                             store(shape.ranks == 1
                                       ? grad_x + n * b.features + d
                                       : smem.grad_x + d,
                                   of_block);
                           });
    if (shape.ranks == 1) {
      __syncthreads();  // the next round writes where this one reads
      continue;
    }
    // The next sums are written behind the next round's first barrier.
    cluster_sync();
    for (int d = thread_of_block(); rank == 0 && grad_x && d < shape.features;
         d += blockDim.x * blockDim.y) {
      grad_x[n * b.features + d] = cluster_sum(smem.grad_x, d, shape.ranks);
    }
  }
  cluster_sync();  // no block leaves whose memory another reads
}

// ----------------------------------------------------------------- launchers

template <typename Scalar>
void one_pass_cluster(const GmmForwardBackward& p, const OwnGrads<Scalar>& own,
                      const ClusterShape& cluster, void* stream) {
  if constexpr (std::is_same_v<Scalar, float>) {
    const GmmBackward& b = p.backward;
    launch("gmm one_pass_cluster_kernel", one_pass_cluster_kernel<Scalar>,
           cluster_launch_shape<Scalar>(b, cluster), stream, p, own, cluster,
           Floor<Accumulate<Scalar>>(b.min_std));
  } else {
    throw std::logic_error("the plan chose a cluster for other than float32");
  }
}

}  // namespace vtadl::gmm
