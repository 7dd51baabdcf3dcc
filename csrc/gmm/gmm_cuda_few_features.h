// Kernels for so few features that the components' log-probabilities and
// weights are no small part of the memory traffic: each pass is one kernel. A
// group of lanes per sample, and a lane computes whole components.
#pragma once

#include "gmm/gmm_cuda_mixing.h"

namespace vtadl::gmm {

constexpr int kFewFeatures = 4;

// One component for one sample.
template <typename T, int kFeatures>
struct FewFeatures {
  T z[kFeatures];
  Scale<T> scale[kFeatures];
};

template <int kFeatures, typename Scalar, typename T>
__device__ FewFeatures<T, kFeatures> distances(
    const GmmProblem& p, const T (&x)[kFeatures],
    const ComponentParameter<Scalar>& mu,
    const ComponentParameter<Scalar>& scale, const Floor<T>& floor) {
  T mean[kFeatures], raw[kFeatures];
  mu.load(0, mean);
  scale.load(0, raw);
  FewFeatures<T, kFeatures> result;
  activate(p.scale_param, raw, floor, result.scale);
  VTADL_UNROLL
  for (int d = 0; d < kFeatures; ++d) {
    result.z[d] = (x[d] - mean[d]) * result.scale[d].inverse_std;
  }
  return result;
}

// log N_k and log_prob of a sample, by a group of `width` lanes; all lanes of
// the warp have to take part.
template <int kFeatures, typename Scalar, typename T = Accumulate<Scalar>>
__device__ T forward_of_sample(const GmmForward& p, int64_t n, int64_t count,
                               int width, const T (&x)[kFeatures],
                               const Floor<T>& floor) {
  const int64_t mu_row = p.mu.rows.row(n), scale_row = p.scale.rows.row(n);
  T* component = static_cast<T*>(p.component_log_prob) + n * p.components;
  for (int64_t k = lane_of(width); k < count; k += width) {
    const auto features = distances<kFeatures>(
        p, x, ComponentParameter<Scalar>(p.mu, mu_row, k),
        ComponentParameter<Scalar>(p.scale, scale_row, k), floor);
    T log_normal = T(-0.5 * kLog2Pi * kFeatures);
    VTADL_UNROLL
    for (int d = 0; d < kFeatures; ++d) {
      log_normal -=
          features.scale[d].log_std + T(0.5) * features.z[d] * features.z[d];
    }
    component[k] = log_normal;
  }
  if (p.mixture == Mixture::kNone) return 0;
  // Each lane reads back only what it wrote itself.
  const T log_prob = mix_sample(p.mixture, sample_logits<Scalar>(p, n),
                                component, count, width);
  if (count > 0 && lane_of(width) == 0) {
    static_cast<T*>(p.log_prob)[n] = log_prob;
  }
  return log_prob;
}

// The gradient of a parameter of one component, which may be the same for all
// features.
template <typename Scalar, int kFeatures, typename T>
__device__ void store_grad(Scalar* grad, const GmmParameter& parameter,
                           int64_t at, const T (&values)[kFeatures]) {
  if (parameter.size == kFeatures) {
    return store(grad + at * kFeatures, values);
  }
  T sum = 0;
  VTADL_UNROLL
  for (int d = 0; d < kFeatures; ++d) sum += values[d];
  grad[at] = static_cast<Scalar>(sum);
}

// Where the gradients of parameters that belong to one sample go, or null.
template <typename Scalar>
struct FewFeaturesGrads {
  Scalar* mu;
  Scalar* scale;
  bool keeps_weights;  // for the gradients of other parameters

  explicit FewFeaturesGrads(const GmmBackward& p)
      : mu(static_cast<Scalar*>(is_per_component(p, p.mu) ? p.grad_mu
                                                          : nullptr)),
        scale(static_cast<Scalar*>(is_per_component(p, p.scale) ? p.grad_scale
                                                                : nullptr)),
        keeps_weights(mu != p.grad_mu || scale != p.grad_scale) {}
};

// All gradients that have a row for each sample, as forward_of_sample.
template <int kFeatures, typename Scalar, typename T = Accumulate<Scalar>>
__device__ void backward_of_sample(const GmmBackward& p,
                                   const FewFeaturesGrads<Scalar>& grads,
                                   int64_t n, int64_t count, int width,
                                   const T (&x)[kFeatures], T log_prob,
                                   const Floor<T>& floor) {
  const int64_t mu_row = p.mu.rows.row(n), scale_row = p.scale.rows.row(n);
  const SampleGrad<Scalar> sample(p, n, count, width, log_prob);
  T grad_x[kFeatures] = {};
  for (int64_t k = lane_of(width); k < count; k += width) {
    const int64_t at = n * p.components + k;
    const auto grad = sample.of(p.mixture, k);
    if (grads.keeps_weights) static_cast<T*>(p.weight)[at] = grad.weight;
    if (p.grad_logits) static_cast<T*>(p.grad_logits)[at] = grad.logit;
    T pull[kFeatures] = {}, stretch[kFeatures] = {};
    if (grad.weight != 0) {
      const auto features = distances<kFeatures>(
          p, x, ComponentParameter<Scalar>(p.mu, mu_row, k),
          ComponentParameter<Scalar>(p.scale, scale_row, k), floor);
      VTADL_UNROLL
      for (int d = 0; d < kFeatures; ++d) {
        const T z = features.z[d];
        pull[d] = grad.weight * z * features.scale[d].inverse_std;
        stretch[d] = grad.weight * (z * z - 1) * features.scale[d].slope;
        grad_x[d] -= pull[d];
      }
    }
    if (grads.mu) store_grad(grads.mu, p.mu, at, pull);
    if (grads.scale) store_grad(grads.scale, p.scale, at, stretch);
  }
  VTADL_UNROLL
  for (int d = 0; d < kFeatures; ++d) grad_x[d] = warp_sum(grad_x[d], width);
  if (p.grad_x && count > 0 && lane_of(width) == 0) {
    store(static_cast<T*>(p.grad_x) + n * kFeatures, grad_x);
  }
}

// Calls body with every sample of the calling group, its number of components
// and its features; to fill the warp, the first again, with no components.
template <typename Scalar, int kFeatures, typename Body>
__device__ void for_samples_of_group(const GmmProblem& p, int width,
                                     const Body& body) {
  const GroupStride group(width);
  const int64_t warp_first = group.warp_first(width);
  for (int64_t offset = 0; warp_first + offset < p.samples;
       offset += group.step) {
    const bool in_use = group.first + offset < p.samples;
    const int64_t n = in_use ? group.first + offset : 0;
    Accumulate<Scalar> x[kFeatures];
    load(sample_features<Scalar>(p, n), x);
    body(n, in_use ? p.components : 0, x);
  }
}

// Reads logits, mu, scale and x and writes the log N_k once, 2 U + 2 N·K + N·D
// elements; the log N_k come back from the cache. Some 50 registers: half of
// the threads that a multiprocessor holds.
template <typename Scalar, int kFeatures, typename T = Accumulate<Scalar>>
__global__ void few_features_forward_kernel(GmmForward p, int width,
                                            Floor<T> floor) {
  for_samples_of_group<Scalar, kFeatures>(
      p, width, [&](int64_t n, int64_t count, const T(&x)[kFeatures]) {
        forward_of_sample<kFeatures, Scalar>(p, n, count, width, x, floor);
      });
}

// Reads logits, log N_k, mu, scale and x and writes the gradients once, 4 U +
// 3 N·K + 2 N·D elements, and N·K more where other kernels need the weights.
// Some 70 registers: 3/8 of the threads that a multiprocessor holds.
template <typename Scalar, int kFeatures, typename T = Accumulate<Scalar>>
__global__ void few_features_backward_kernel(GmmBackward p,
                                             FewFeaturesGrads<Scalar> grads,
                                             int width, Floor<T> floor) {
  for_samples_of_group<Scalar, kFeatures>(
      p, width, [&](int64_t n, int64_t count, const T(&x)[kFeatures]) {
        backward_of_sample<kFeatures>(p, grads, n, count, width, x,
                                      static_cast<const T*>(p.log_prob)[n],
                                      floor);
      });
}

// Both passes of one sample after the other: the second finds what it reads in
// the cache. Moves 4 U + 3 N·K + 2 N·D elements. Some 70 registers: 3/8 of the
// threads that a multiprocessor holds.
template <typename Scalar, int kFeatures, typename T = Accumulate<Scalar>>
__global__ void few_features_kernel(GmmForwardBackward p,
                                    FewFeaturesGrads<Scalar> grads, int width,
                                    Floor<T> floor) {
  for_samples_of_group<Scalar, kFeatures>(
      p.forward, width, [&](int64_t n, int64_t count, const T(&x)[kFeatures]) {
        const T log_prob = forward_of_sample<kFeatures, Scalar>(
            p.forward, n, count, width, x, floor);
        backward_of_sample<kFeatures>(p.backward, grads, n, count, width, x,
                                      log_prob, floor);
      });
}

// ----------------------------------------------------------------- launchers

// Calls body with the number of features as a constant. Not for doubles, which
// serve checks more than training: their kernels take nvcc longest.
template <typename Scalar, typename Body>
void dispatch_few_features(int64_t features, const Body& body) {
  if constexpr (sizeof(Scalar) < sizeof(double)) {
    switch (features) {
      case 1:
        return body(std::integral_constant<int, 1>());
      case 2:
        return body(std::integral_constant<int, 2>());
      case 3:
        return body(std::integral_constant<int, 3>());
      default:
        return body(std::integral_constant<int, kFewFeatures>());
    }
  }
}

inline bool has_few_features(const GmmForward& p) {
  return p.dtype != DType::kFloat64 && p.features <= kFewFeatures &&
         aligned({p.x, p.mu.data, p.scale.data});
}

inline bool has_few_features(const GmmBackward& p) {
  return p.dtype != DType::kFloat64 && p.features <= kFewFeatures &&
         p.mixture != Mixture::kNone &&
         aligned(
             {p.x, p.mu.data, p.scale.data, p.grad_x, p.grad_mu, p.grad_scale});
}

template <typename Scalar>
void few_features_forward(const GmmForward& p, void* stream) {
  const MixingShape shape = mixing_shape(p, p.samples);
  dispatch_few_features<Scalar>(p.features, [&](auto features) {
    launch("gmm few_features_forward_kernel",
           few_features_forward_kernel<Scalar, decltype(features)::value>,
           shape.launch, stream, p, shape.width,
           Floor<Accumulate<Scalar>>(p.min_std));
  });
}

template <typename Scalar>
void few_features_backward(const GmmBackward& p, void* stream) {
  const MixingShape shape = mixing_shape(p, p.samples);
  dispatch_few_features<Scalar>(p.features, [&](auto features) {
    launch("gmm few_features_backward_kernel",
           few_features_backward_kernel<Scalar, decltype(features)::value>,
           shape.launch, stream, p, FewFeaturesGrads<Scalar>(p), shape.width,
           Floor<Accumulate<Scalar>>(p.min_std));
  });
}

template <typename Scalar>
void few_features_forward_backward(const GmmForwardBackward& p, void* stream) {
  const MixingShape shape = mixing_shape(p.forward, p.forward.samples);
  dispatch_few_features<Scalar>(p.forward.features, [&](auto features) {
    launch("gmm few_features_kernel",
           few_features_kernel<Scalar, decltype(features)::value>, shape.launch,
           stream, p, FewFeaturesGrads<Scalar>(p.backward), shape.width,
           Floor<Accumulate<Scalar>>(p.forward.min_std));
  });
}

}  // namespace vtadl::gmm
