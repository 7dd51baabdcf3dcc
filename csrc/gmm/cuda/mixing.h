// From the components' log-probabilities to the samples', and back. A group of
// lanes per sample: few lanes for few components.
#pragma once

#include "gmm/cuda/device.h"

namespace vtadl::gmm {

// At most, where a warp suffices for a sample.
constexpr int kComponentsPerLane = 4;

// Over value(0), value(1), …, by a group of `width` lanes; all lanes of the
// warp have to take part.
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
  return {shift, std::log(warp_sum(sum, width))};
}

template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ LogSumExp<T> group_log_sum_exp(const Scalar* values, int64_t count,
                                          int width) {
  return group_log_sum_exp(
      count, width, [&](int64_t i) { return static_cast<T>(values[i]); });
}

// The mean of log N_k under the weights that `pi` makes of the logits; -inf
// where all are masked.
template <typename Scalar, typename T>
__device__ T group_mean(const Scalar* logits, const LogSumExp<T>& pi,
                        const T* log_normal, int64_t count, int width) {
  T sum = 0;
  for (int64_t k = lane_of(width); k < count; k += width) {
    const T share = pi.softmax(static_cast<T>(logits[k]));
    sum += share == 0 ? T(0) : share * log_normal[k];
  }
  sum = warp_sum(sum, width);
  return pi.log_sum == -INFINITY ? pi.log_sum : sum;
}

// The log-probability of a sample from its logits, log Σ exp of these, and the
// log N_k, to which it adds log π_k under kLogSumExp.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ T mix_sample(Mixture mixture, const Scalar* logits,
                        const LogSumExp<T>& weights, T* component,
                        int64_t count, int width) {
  if (mixture == Mixture::kWeighted) {
    return group_mean(logits, weights, component, count, width);
  }
  for (int64_t k = lane_of(width); k < count; k += width) {
    const T log_pi = weights.log_softmax(static_cast<T>(logits[k]));
    component[k] = log_pi == -INFINITY ? log_pi : component[k] + log_pi;
  }
  // Each lane reads back only what it wrote itself.
  return group_log_sum_exp(component, count, width).total();
}

// log_prob. Moves 3 N·K elements, and finds again what it has just read in the
// cache. Few registers: at least half of the threads that a multiprocessor
// holds.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void mix_kernel(GmmForward p, int width) {
  const GroupStride group(width);
  const int64_t warp_first = group.warp_first(width);
  for (int64_t offset = 0; warp_first + offset < p.samples;
       offset += group.step) {
    const int64_t i = group.first + offset;
    const bool in_use = i < p.samples;
    const int64_t n = in_use ? i : 0;
    const int64_t count = in_use ? p.components : 0;
    const Scalar* logits = sample_logits<Scalar>(p, n);
    const T log_prob = mix_sample(
        p.mixture, logits, group_log_sum_exp(logits, count, width),
        static_cast<T*>(p.component_log_prob) + n * p.components, count, width);
    if (in_use && lane_of(width) == 0) {
      static_cast<T*>(p.log_prob)[n] = log_prob;
    }
  }
}

// What the gradients need to know of a sample to weigh its components.
template <typename Scalar, typename T = Accumulate<Scalar>>
struct SampleGrad {
  const Scalar* logits;
  const T* component;
  LogSumExp<T> weights;
  T grad, log_prob;

  // `weights`: log Σ exp of the logits.
  __device__ SampleGrad(const GmmBackward& p, int64_t n,
                        const LogSumExp<T>& weights, T log_prob)
      : logits(sample_logits<Scalar>(p, n)),
        component(static_cast<const T*>(p.component_log_prob) +
                  n * p.components),
        weights(weights),
        grad(p.grad ? static_cast<const T*>(p.grad)[n]
                    : static_cast<T>(p.constant_grad)),
        log_prob(log_prob) {}

  // Of the loss, with respect to log N_k and logits_k.
  __device__ ComponentGrad<T> of(Mixture mixture, int64_t k) const {
    const T pi = weights.softmax(static_cast<T>(logits[k]));
    return component_grad(mixture, grad, pi, component[k], log_prob);
  }
};

// The weight of each component in the gradients, and the logits' gradient.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void weigh_sample(const SampleGrad<Scalar>& sample,
                             const GmmBackward& p, int64_t n, int64_t count,
                             int width) {
  for (int64_t k = lane_of(width); k < count; k += width) {
    const int64_t at = n * p.components + k;
    const auto grad = sample.of(p.mixture, k);
    static_cast<T*>(p.grad_log_normal)[at] = grad.log_normal;
    if (p.grad_logits) static_cast<T*>(p.grad_logits)[at] = grad.logit;
  }
}

// Moves at most 4 N·K elements. Few registers: at least half of the threads
// that a multiprocessor holds.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void weigh_kernel(GmmBackward p, int width) {
  const GroupStride group(width);
  const int64_t warp_first = group.warp_first(width);
  for (int64_t offset = 0; warp_first + offset < p.samples;
       offset += group.step) {
    const int64_t i = group.first + offset;
    const bool in_use = i < p.samples;
    const int64_t n = in_use ? i : 0;
    const int64_t count = in_use ? p.components : 0;
    const SampleGrad<Scalar> sample(
        p, n, group_log_sum_exp(sample_logits<Scalar>(p, n), count, width),
        static_cast<const T*>(p.log_prob)[n]);
    weigh_sample(sample, p, n, count, width);
  }
}

// log_prob of a sample and the weights of its components, by one warp.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void mix_and_weigh(const GmmForwardBackward& p, int64_t n) {
  const GmmForward& forward = p.forward;
  const int64_t count = forward.components;
  const Scalar* logits = sample_logits<Scalar>(forward, n);
  const auto weights = group_log_sum_exp(logits, count, kWarp);
  const T log_prob = mix_sample(
      forward.mixture, logits, weights,
      static_cast<T*>(forward.component_log_prob) + n * count, count, kWarp);
  if (lane_of(kWarp) == 0) static_cast<T*>(forward.log_prob)[n] = log_prob;
  weigh_sample(SampleGrad<Scalar>(p.backward, n, weights, log_prob), p.backward,
               n, count, kWarp);
}

// ----------------------------------------------------------------- launchers

// Lanes for a sample, and the blocks that gives for some samples.
struct MixingShape {
  int width;
  LaunchShape launch;
};

inline MixingShape mixing_shape(const GmmProblem& p) {
  const int width =
      power_of_two(divide_up(p.components, kComponentsPerLane), kWarp);
  return {width, {grid_size(divide_up(p.samples * width, kBlock)), kBlock}};
}

template <typename Scalar>
void mix(const GmmForward& p, void* stream) {
  if (p.mixture == Mixture::kNone) return;
  const MixingShape shape = mixing_shape(p);
  launch("gmm mix_kernel", mix_kernel<Scalar>, shape.launch, stream, p,
         shape.width);
}

template <typename Scalar>
void weigh(const GmmBackward& p, void* stream) {
  if (p.mixture == Mixture::kNone) return;
  const MixingShape shape = mixing_shape(p);
  launch("gmm weigh_kernel", weigh_kernel<Scalar>, shape.launch, stream, p,
         shape.width);
}

}  // namespace vtadl::gmm
