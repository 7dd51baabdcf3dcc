// Both passes at once, for samples whose mixtures are so small that those in
// flight fit the L2 cache together.
#pragma once

#include "gmm/cuda/mixing.h"
#include "gmm/cuda/per_sample.h"

namespace vtadl::gmm {

// Writes log N_k of a sample, by groups of `width` lanes.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__device__ void log_normals_of_block(const GmmForward& p, int64_t n, int width,
                                     const Floor<T>& floor) {
  const int threads = blockDim.x * blockDim.y;
  T* component_log_prob =
      static_cast<T*>(p.component_log_prob) + n * p.components;
  for (int64_t first = 0; first < p.components; first += threads / width) {
    const int64_t k = first + thread_of_block() / width;
    const bool in_use = k < p.components;
    const T log_normal =
        group_log_normal<Scalar, kPack>(p, n, k, in_use, width, floor);
    if (in_use && lane_of(width) == 0) component_log_prob[k] = log_normal;
  }
}

// A block per sample: groups of `width` lanes find log N_k, the first warp
// log_prob and the gradients with respect to log N_k, and then all threads the
// other gradients, for which they find mu and scale in the cache. The kernel
// moves 4 U + 4 N·K elements. 3/8 of the threads that a multiprocessor holds
// are resident, or 1/4 where a thread works on 8 elements or a block is one
// warp.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlockThreads, kOnePassBlocksPerSm<Scalar>)
    one_pass_kernel(GmmForwardBackward p, OwnGrads<Scalar> own, int width,
                    Floor<T> floor) {
  for (int64_t n = blockIdx.x; n < p.forward.samples; n += gridDim.x) {
    log_normals_of_block<Scalar, kPack>(p.forward, n, width, floor);
    __syncthreads();
    if (thread_of_block() < kWarp) mix_and_differentiate<Scalar>(p, n);
    __syncthreads();
    for (int64_t first = 0; first < p.forward.features;
         first += int64_t(blockDim.x) * kPack) {
      const int64_t d = first + threadIdx.x * kPack;
      backward_of_features<Scalar, kPack>(p.backward, own, n, d,
                                          d < p.forward.features, floor);
    }
  }
}

// ----------------------------------------------------------------- launchers

template <typename Scalar>
void one_pass(const GmmForwardBackward& p, const OwnGrads<Scalar>& own,
              void* stream) {
  const GmmBackward& b = p.backward;
  const bool packed = packs<Scalar>(
      b, {b.x, b.mu.data, b.scale.data, b.grad_x, own.mu, own.scale});
  dispatch_packs<Scalar>(packed, [&](auto pack) {
    constexpr int kPack = decltype(pack)::value;
    launch("gmm one_pass_kernel", one_pass_kernel<Scalar, kPack>,
           one_pass_shape<Scalar>(b, kPack), stream, p, own,
           feature_width(b, kPack), Floor<Accumulate<Scalar>>(b.min_std));
  });
}

}  // namespace vtadl::gmm
