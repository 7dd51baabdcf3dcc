// Both passes at once, for samples whose mixtures are so small that those under
// way fit the second-level cache together.
#pragma once

#include "gmm/gmm_cuda_diagonal.h"
#include "gmm/gmm_cuda_mixing.h"

namespace vtadl::gmm {

// As kResidentBlocks, for the kernel below, which needs more registers.
template <typename Scalar>
constexpr int kBothPassesBlocks = sizeof(Scalar) == 4 ? 3 : 2;

// A block per sample: the log N_k by groups of `width` lanes, log_prob and the
// weights by the first warp, then the gradients, for which it finds mu and
// scale in the cache. Moves 4 U + 4 N·K elements. 3/8 of the threads that
// a multiprocessor holds, or 1/4 where a thread works on 8 elements.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlock, kBothPassesBlocks<Scalar>)
    both_passes_kernel(GmmForwardBackward p, PrivateGrads<Scalar> grads,
                       int width, Floor<T> floor) {
  const GmmForward& forward = p.forward;
  const int64_t components = forward.components;
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  for (int64_t n = blockIdx.x; n < forward.samples; n += gridDim.x) {
    T* component = static_cast<T*>(forward.component_log_prob) + n * components;
    for (int64_t first = 0; first < components; first += kBlock / width) {
      const int64_t k = first + thread / width;
      const T log_normal = group_log_normal<Scalar, kPack>(
          forward, n, k, k < components, width, floor);
      if (k < components && lane_of(width) == 0) component[k] = log_normal;
    }
    __syncthreads();
    if (thread < kWarp) {
      const T log_prob =
          mix_sample(forward.mixture, sample_logits<Scalar>(forward, n),
                     component, components, kWarp);
      if (thread == 0) static_cast<T*>(forward.log_prob)[n] = log_prob;
      weigh_sample(
          SampleGrad<Scalar>(p.backward, n, components, kWarp, log_prob),
          p.backward, n, components, kWarp);
    }
    __syncthreads();
    for (int64_t first = 0; first < forward.features;
         first += int64_t(blockDim.x) * kPack) {
      const int64_t d = first + threadIdx.x * kPack;
      backward_of_features<Scalar, kPack>(p.backward, grads, n, d,
                                          d < forward.features, floor);
    }
  }
}

// ----------------------------------------------------------------- launchers

inline int64_t bytes_of_sample(const GmmProblem& p, std::size_t scalar_bytes) {
  return int64_t(scalar_bytes) * p.components * (p.mu.size + p.scale.size);
}

// Half of the second-level cache, so that what is written does not displace
// what will be read.
inline int64_t usable_cache_bytes() {
  return device_attribute(cudaDevAttrL2CacheSize) / 2;
}

// Whether a block per sample fills the device, and its samples fit the cache.
template <typename Scalar>
bool fits_both_passes(const GmmProblem& p) {
  const int64_t blocks = kBothPassesBlocks<Scalar> * multiprocessors();
  return p.mixture != Mixture::kNone && p.samples >= blocks &&
         p.mu.rows.repeats == 1 && p.scale.rows.repeats == 1 &&
         blocks * bytes_of_sample(p, sizeof(Scalar)) <= usable_cache_bytes();
}

template <typename Scalar>
void both_passes(const GmmForwardBackward& p, void* stream) {
  using T = Accumulate<Scalar>;
  const GmmBackward& q = p.backward;
  const PrivateGrads<Scalar> grads(q);
  const bool packed = packs<Scalar>(
      q, {q.x, q.mu.data, q.scale.data, q.grad_x, grads.mu, grads.scale});
  dispatch_packs<Scalar>(packed, [&](auto pack) {
    constexpr int kPack = decltype(pack)::value;
    const int64_t columns = divide_up(q.features, kPack);
    const int x = power_of_two(columns, kBlock / 2);
    launch(
        "gmm both_passes_kernel", both_passes_kernel<Scalar, kPack>,
        {grid_size(q.samples), dim3(x, kBlock / x), sizeof(T) * kPack * kBlock},
        stream, p, grads, power_of_two(columns, kWarp), Floor<T>(q.min_std));
  });
}

}  // namespace vtadl::gmm
