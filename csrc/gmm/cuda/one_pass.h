// Both passes at once, for samples whose mixtures are so small that those under
// way fit the second-level cache together.
#pragma once

#include "gmm/cuda/mixing.h"
#include "gmm/cuda/per_sample.h"

namespace vtadl::gmm {

// As kResidentBlocks, for the kernel below, which needs more registers.
template <typename Scalar>
constexpr int kBothPassesBlocks = sizeof(Scalar) == 4 ? 3 : 2;

__device__ inline int thread_of_block() {
  return threadIdx.y * blockDim.x + threadIdx.x;
}

// log N_k of a sample, by groups of `width` lanes.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__device__ void log_normals_of_block(const GmmForward& p, int64_t n, int width,
                                     const Floor<T>& floor) {
  const int threads = blockDim.x * blockDim.y;
  T* component = static_cast<T*>(p.component_log_prob) + n * p.components;
  for (int64_t first = 0; first < p.components; first += threads / width) {
    const int64_t k = first + thread_of_block() / width;
    const bool in_use = k < p.components;
    const T log_normal =
        group_log_normal<Scalar, kPack>(p, n, k, in_use, width, floor);
    if (in_use && lane_of(width) == 0) component[k] = log_normal;
  }
}

// A block per sample: the log N_k by groups of `width` lanes, log_prob and the
// weights by the first warp, then the gradients, for which it finds mu and
// scale in the cache. Moves 4 U + 4 N·K elements. 3/8 of the threads that
// a multiprocessor holds, or 1/4 where a thread works on 8 elements or a block
// is one warp.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlock, kBothPassesBlocks<Scalar>)
    both_passes_kernel(GmmForwardBackward p, PrivateGrads<Scalar> grads,
                       int width, Floor<T> floor) {
  for (int64_t n = blockIdx.x; n < p.forward.samples; n += gridDim.x) {
    log_normals_of_block<Scalar, kPack>(p.forward, n, width, floor);
    __syncthreads();
    if (thread_of_block() < kWarp) mix_and_weigh<Scalar>(p, n);
    __syncthreads();
    for (int64_t first = 0; first < p.forward.features;
         first += int64_t(blockDim.x) * kPack) {
      const int64_t d = first + threadIdx.x * kPack;
      backward_of_features<Scalar, kPack>(p.backward, grads, n, d,
                                          d < p.forward.features, floor);
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

// Whether the samples under way fit the cache, a block of so many threads each.
template <typename Scalar>
bool fits_cache(const GmmProblem& p, int threads) {
  constexpr int kMostBlocks = 32;  // of a multiprocessor
  const int64_t blocks =
      multiprocessors() *
      std::min(kBothPassesBlocks<Scalar> * kBlock / threads, kMostBlocks);
  return blocks * bytes_of_sample(p, sizeof(Scalar)) <= usable_cache_bytes();
}

// Whether a block per sample fills the device, and its samples fit the cache.
template <typename Scalar>
bool fits_both_passes(const GmmProblem& p) {
  return p.mixture != Mixture::kNone &&
         p.samples >= kBothPassesBlocks<Scalar> * multiprocessors() &&
         p.mu.rows.repeats == 1 && p.scale.rows.repeats == 1 &&
         fits_cache<Scalar>(p, kBlock);
}

// As few as fit the cache: small blocks wait for each other less.
template <typename Scalar>
int threads_of_both_passes(const GmmProblem& p, int64_t columns) {
  constexpr int64_t kPacksPerThread = 4;
  int threads = kBlock;
  while (threads > kWarp &&
         threads / 2 * kPacksPerThread >= p.components * columns &&
         fits_cache<Scalar>(p, threads / 2)) {
    threads /= 2;
  }
  return threads;
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
    const int threads = threads_of_both_passes<Scalar>(q, columns);
    const int x = power_of_two(columns, threads / 2);
    launch("gmm both_passes_kernel", both_passes_kernel<Scalar, kPack>,
           {grid_size(q.samples), dim3(x, threads / x),
            sizeof(T) * kPack * threads},
           stream, p, grads, power_of_two(columns, kWarp), Floor<T>(q.min_std));
  });
}

}  // namespace vtadl::gmm
