// Kernels for a standard deviation of each feature and parameters that are
// broadcast in any way: log N_k, and the gradients that belong to one sample.
#pragma once

#include "gmm/cuda/device.h"

namespace vtadl::gmm {

// log N_k, by a group of `width` lanes; all lanes of the warp have to take
// part.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__device__ T group_log_normal(const GmmProblem& p, int64_t n, int64_t k,
                              bool in_use, int width, const Floor<T>& floor) {
  const int features = static_cast<int>(p.features);
  LogNormalSums<T> sums;
  if (in_use) {
    const Scalar* x = sample_features<Scalar>(p, n);
    const ComponentParameter<Scalar> mu(p.mu, p.mu.rows.row(n), k);
    const ComponentParameter<Scalar> scale(p.scale, p.scale.rows.row(n), k);
    with_scale_param(p.scale_param, [&](auto param) {
      VTADL_UNROLL_BY(2)
      for (int d = lane_of(width) * kPack; d < features; d += width * kPack) {
        T value[kPack], mean[kPack], raw[kPack];
        load(x + d, value);
        mu.load(d, mean);
        scale.load(d, raw);
        sums.template add<decltype(param)::value>(value, mean, raw, floor);
      }
    });
  }
  return sums.log_normal(p.features, width);
}

// The kernel writes log N_k. A group of `width` lanes serves `components` of a
// sample, kPack features per lane and round. The kernel reads mu and scale
// once, 2 U, and x from the cache for every component, and writes N·K elements.
// Half of the threads that a multiprocessor holds are resident, and each has 32
// to 64 bytes in flight.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm<Scalar>)
    per_sample_forward_kernel(GmmForward p, int components, int width,
                              Floor<T> floor) {
  const int64_t parts = divide_up(p.components, components);
  const int64_t items = p.samples * parts;
  for_each_item(items, width, [&](int64_t item, bool has_item) {
    const int64_t n = item / parts;
    const int64_t first = item % parts * components;
    for (int64_t k = first; k < first + components; ++k) {
      const bool in_use = has_item && k < p.components;
      const T log_normal =
          group_log_normal<Scalar, kPack>(p, n, k, in_use, width, floor);
      if (in_use && lane_of(width) == 0) {
        static_cast<T*>(p.component_log_prob)[n * p.components + k] =
            log_normal;
      }
    }
  });
}

// The gradients of some features of a component, from that with respect to
// log N_k: those of its parameters, and what is subtracted from that of x.
template <ScaleParam kParam, int kPack, typename T>
__device__ void differentiate_pack(const T (&x)[kPack], const T (&mean)[kPack],
                                   const T (&raw)[kPack], T grad,
                                   const Floor<T>& floor, T (&grad_mean)[kPack],
                                   T (&grad_scale)[kPack], T (&grad_x)[kPack]) {
  VTADL_UNROLL
  for (int j = 0; j < kPack; ++j) {
    const auto scale = activate<kParam>(raw[j], floor);
    const auto part =
        feature_grad(grad, standardize(x[j], mean[j], scale.inverse_std));
    grad_mean[j] = part.mean(scale.inverse_std);
    grad_scale[j] = chain<kParam>(part.log_std, scale);
    grad_x[j] -= grad_mean[j];
  }
}

// Writes the gradients of features d, d + 1, … of x and of the sample's own
// parameters; a thread takes one component in blockDim.y. All threads of the
// block have to take part.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__device__ void backward_of_features(const GmmBackward& p,
                                     const OwnGrads<Scalar>& own, int64_t n,
                                     int64_t d, bool in_use,
                                     const Floor<T>& floor) {
  const int64_t mu_row = p.mu.rows.row(n), scale_row = p.scale.rows.row(n);
  T x[kPack] = {}, grad_x[kPack] = {};
  if (in_use) load(sample_features<Scalar>(p, n) + d, x);
  // Each gradient with respect to log N_k is loaded before it is needed: where
  // it is 0, the parameters are not read.
  const T* grads = log_normal_grads<T>(p) + n * p.components;
  T next = in_use && threadIdx.y < p.components ? grads[threadIdx.y] : T(0);
  with_scale_param(p.scale_param, [&](auto param) {
    for (int64_t k = threadIdx.y; in_use && k < p.components; k += blockDim.y) {
      const int64_t at = n * p.components + k;
      const T grad = next;
      if (k + blockDim.y < p.components) next = grads[k + blockDim.y];
      T grad_mean[kPack] = {}, grad_scale[kPack] = {};
      if (grad != 0) {
        T mean[kPack], raw[kPack];
        ComponentParameter<Scalar>(p.mu, mu_row, k).load(d, mean);
        ComponentParameter<Scalar>(p.scale, scale_row, k).load(d, raw);
        differentiate_pack<decltype(param)::value>(
            x, mean, raw, grad, floor, grad_mean, grad_scale, grad_x);
      }
      if (own.mu) store(own.mu + at * p.features + d, grad_mean);
      if (own.scale) store(own.scale + at * p.features + d, grad_scale);
    }
  });
  if (!p.grad_x) return;
  sum_over_y(grad_x, shared_memory<T>());
  if (in_use && threadIdx.y == 0) {
    store(static_cast<T*>(p.grad_x) + n * p.features + d, grad_x);
  }
}

// The kernel writes the gradients of x and of the samples' own parameters. A
// block works on some features of z samples at a time: x walks over the
// features, kPack at a time, y over the components. The kernel reads mu and
// scale, 2 U, and writes their gradients, 2 U; x and its gradient stay in
// registers. Components whose gradient is 0 are not read. Half of the threads
// that a multiprocessor holds are resident.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm<Scalar>)
    per_sample_backward_kernel(GmmBackward p, int64_t tiles,
                               OwnGrads<Scalar> own, Floor<T> floor) {
  const int64_t items = p.samples * tiles;
  for (int64_t first = int64_t(blockIdx.x) * blockDim.z; first < items;
       first += int64_t(gridDim.x) * blockDim.z) {
    const int64_t item = first + threadIdx.z;
    const int64_t d = (item % tiles * blockDim.x + threadIdx.x) * kPack;
    backward_of_features<Scalar, kPack>(p, own, item / tiles, d,
                                        item < items && d < p.features, floor);
  }
}

// ----------------------------------------------------------------- launchers

template <typename Scalar>
void per_sample_forward(const GmmForward& p, void* stream) {
  const bool packed = packs<Scalar>(p, {p.x, p.mu.data, p.scale.data});
  dispatch_packs<Scalar>(packed, [&](auto pack) {
    constexpr int kPack = decltype(pack)::value;
    const int width = feature_width(p, kPack);
    const int components = components_per_group(p, width);
    const GroupShape shape(p.samples * divide_up(p.components, components),
                           width);
    launch("gmm per_sample_forward_kernel",
           per_sample_forward_kernel<Scalar, kPack>, shape.launch, stream, p,
           components, width, Floor<Accumulate<Scalar>>(p.min_std));
  });
}

template <typename Scalar>
void per_sample_backward(const GmmBackward& p, const OwnGrads<Scalar>& own,
                         void* stream) {
  const bool packed = packs<Scalar>(
      p, {p.x, p.mu.data, p.scale.data, p.grad_x, own.mu, own.scale});
  dispatch_packs<Scalar>(packed, [&](auto pack) {
    constexpr int kPack = decltype(pack)::value;
    const TiledShape shape = per_sample_backward_shape<Scalar>(p, kPack);
    launch("gmm per_sample_backward_kernel",
           per_sample_backward_kernel<Scalar, kPack>, shape.launch, stream, p,
           shape.tiles, own, Floor<Accumulate<Scalar>>(p.min_std));
  });
}

}  // namespace vtadl::gmm
