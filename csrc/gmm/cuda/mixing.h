// From the components' log-probabilities to the samples', and back. A group of
// lanes per sample: few lanes for few components.
#pragma once

#include <utility>

#include "gmm/cuda/device.h"

namespace vtadl::gmm {

// log Σ exp of value(0), value(1), …, by a group of `width` lanes; all lanes of
// the warp have to take part.
template <typename Value, typename T = decltype(std::declval<Value>()(0))>
__device__ LogSumExp<T> group_log_sum_exp(int64_t count, int width,
                                          const Value& value) {
  const int lane = lane_of(width);
  T maximum = -static_cast<T>(INFINITY);
  for (int64_t i = lane; i < count; i += width) {
    const T other = value(i);
    maximum = other > maximum ? other : maximum;
  }
  const T shift = log_sum_exp_shift(warp_max(maximum, width));
  T sum = 0;
  for (int64_t i = lane; i < count; i += width) {
    sum += exponential(value(i) - shift);
  }
  return {shift, logarithm(warp_sum(sum, width))};
}

template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ LogSumExp<T> group_log_sum_exp(const Scalar* values, int64_t count,
                                          int width) {
  return group_log_sum_exp(
      count, width, [&](int64_t i) { return static_cast<T>(values[i]); });
}

// Σ_k π_k log N_k, where `logits_lse` is log Σ exp of the logits.
template <typename Scalar, typename T>
__device__ T group_expected_log_normal(const Scalar* logits,
                                       const LogSumExp<T>& logits_lse,
                                       const T* log_normal, int64_t count,
                                       int width) {
  T sum = 0;
  for (int64_t k = lane_of(width); k < count; k += width) {
    const T pi = logits_lse.softmax(static_cast<T>(logits[k]));
    sum += weighted_log_prob(pi, log_normal[k]);
  }
  return expected_log_normal(logits_lse, warp_sum(sum, width));
}

// The log-probability of a sample from its logits, log Σ exp of these, and the
// log N_k, to which it adds log π_k under kLogSumExp.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ T mix_sample(Mixture mixture, const Scalar* logits,
                        const LogSumExp<T>& logits_lse, T* component_log_prob,
                        int64_t count, int width) {
  if (mixture == Mixture::kWeighted) {
    return group_expected_log_normal(logits, logits_lse, component_log_prob,
                                     count, width);
  }
  for (int64_t k = lane_of(width); k < count; k += width) {
    const T log_pi = logits_lse.log_softmax(static_cast<T>(logits[k]));
    component_log_prob[k] = joint_log_prob(log_pi, component_log_prob[k]);
  }
  // Each lane reads back only what it wrote itself.
  return group_log_sum_exp(component_log_prob, count, width).total();
}

// Calls body(n, in_use, components, logits, log Σ exp of the logits) for the
// samples of this thread's group; there are no components where it is not in
// use.
template <typename Scalar, typename Body>
__device__ void for_each_mixture(const GmmProblem& p, int width,
                                 const Body& body) {
  for_each_item(p.samples, width, [&](int64_t item, bool in_use) {
    const int64_t n = in_use ? item : 0;
    const int64_t count = in_use ? p.components : 0;
    const Scalar* logits = sample_logits<Scalar>(p, n);
    body(n, in_use, count, logits, group_log_sum_exp(logits, count, width));
  });
}

// The kernel writes log_prob. It moves 3 N·K elements, and finds in the cache
// what it has just read. It needs few registers: at least half of the threads
// that a multiprocessor holds are resident.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void mixing_forward_kernel(GmmForward p, int width) {
  for_each_mixture<Scalar>(
      p, width,
      [&](int64_t n, bool in_use, int64_t count, const Scalar* logits,
          const LogSumExp<T>& logits_lse) {
        const T log_prob =
            mix_sample(p.mixture, logits, logits_lse,
                       static_cast<T*>(p.component_log_prob) + n * p.components,
                       count, width);
        if (in_use && lane_of(width) == 0) {
          static_cast<T*>(p.log_prob)[n] = log_prob;
        }
      });
}

// Writes the gradients of a sample with respect to log N_k and logits_k.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void differentiate_mixture(const GmmBackward& p, int64_t n,
                                      int64_t count, int width,
                                      const Scalar* logits,
                                      const LogSumExp<T>& logits_lse,
                                      T log_prob) {
  const T grad = log_prob_grad<T>(p, n);
  const T* component_log_prob =
      static_cast<const T*>(p.component_log_prob) + n * p.components;
  for (int64_t k = lane_of(width); k < count; k += width) {
    const int64_t at = n * p.components + k;
    const T pi = logits_lse.softmax(static_cast<T>(logits[k]));
    const auto part =
        component_grad(p.mixture, grad, pi, component_log_prob[k], log_prob);
    static_cast<T*>(p.grad_log_normal)[at] = part.log_normal;
    if (p.grad_logits) static_cast<T*>(p.grad_logits)[at] = part.logit;
  }
}

// The kernel writes the gradients with respect to log N_k and the logits. It
// moves at most 4 N·K elements, and needs few registers: at least half of the
// threads that a multiprocessor holds are resident.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void mixing_backward_kernel(GmmBackward p, int width) {
  for_each_mixture<Scalar>(
      p, width,
      [&](int64_t n, bool, int64_t count, const Scalar* logits,
          const LogSumExp<T>& logits_lse) {
        differentiate_mixture(p, n, count, width, logits, logits_lse,
                              static_cast<const T*>(p.log_prob)[n]);
      });
}

// Writes what both mixing kernels write for one sample. One warp calls the
// function.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void mix_and_differentiate(const GmmForwardBackward& p, int64_t n) {
  const GmmForward& f = p.forward;
  const int64_t count = f.components;
  const Scalar* logits = sample_logits<Scalar>(f, n);
  const auto logits_lse = group_log_sum_exp(logits, count, kWarp);
  const T log_prob = mix_sample(
      f.mixture, logits, logits_lse,
      static_cast<T*>(f.component_log_prob) + n * count, count, kWarp);
  if (lane_of(kWarp) == 0) static_cast<T*>(f.log_prob)[n] = log_prob;
  differentiate_mixture(p.backward, n, count, kWarp, logits, logits_lse,
                        log_prob);
}

// ----------------------------------------------------------------- launchers

template <typename Scalar>
void mixing_forward(const GmmForward& p, void* stream) {
  const GroupShape shape = mixing_shape(p);
  launch("gmm mixing_forward_kernel", mixing_forward_kernel<Scalar>,
         shape.launch, stream, p, shape.width);
}

template <typename Scalar>
void mixing_backward(const GmmBackward& p, void* stream) {
  const GroupShape shape = mixing_shape(p);
  launch("gmm mixing_backward_kernel", mixing_backward_kernel<Scalar>,
         shape.launch, stream, p, shape.width);
}

}  // namespace vtadl::gmm
