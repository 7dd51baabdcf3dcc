// A kernel for so few features, and no more components than a warp's registers
// hold, that all of a sample is read once: a group of lanes per sample, and a
// lane computes whole components.
#pragma once

#include <stdexcept>

#include "gmm/cuda/device.h"

namespace vtadl::gmm {

// A lane holds components lane, lane + width, … of a sample. Where there are no
// more, log N_k and logits_k are -inf.
template <typename Scalar, int kFeatures, typename T = Accumulate<Scalar>>
struct LaneOfSample {
  T logit[kComponentsPerLane], component_log_prob[kComponentsPerLane];
  T z[kComponentsPerLane][kFeatures];
  ActivatedScale<T> scale[kComponentsPerLane][kFeatures];

  __device__ LaneOfSample(const GmmProblem& p, int64_t n, int count, int width,
                          const Floor<T>& floor) {
    T x[kFeatures];
    load(sample_features<Scalar>(p, n), x);
    const int64_t mu_row = p.mu.rows.row(n), scale_row = p.scale.rows.row(n);
    const Scalar* logits =
        p.mixture == Mixture::kNone ? nullptr : sample_logits<Scalar>(p, n);
    with_scale_param(p.scale_param, [&](auto param) {
      VTADL_UNROLL
      for (int i = 0; i < kComponentsPerLane; ++i) {
        const int k = lane_of(width) + i * width;
        logit[i] = component_log_prob[i] = -static_cast<T>(INFINITY);
        if (k >= count) continue;
        if (logits) logit[i] = static_cast<T>(logits[k]);
        T mean[kFeatures], raw[kFeatures];
        ComponentParameter<Scalar>(p.mu, mu_row, k).load(0, mean);
        ComponentParameter<Scalar>(p.scale, scale_row, k).load(0, raw);
        T log_det = 0, distance = 0;
        VTADL_UNROLL
        for (int d = 0; d < kFeatures; ++d) {
          scale[i][d] = activate<decltype(param)::value>(raw[d], floor);
          z[i][d] = standardize(x[d], mean[d], scale[i][d].inverse_std);
          log_det += scale[i][d].log_std;
          distance += z[i][d] * z[i][d];
        }
        component_log_prob[i] = log_normal(kFeatures, log_det, distance);
      }
    });
  }
};

// log Σ exp of the values of a group of `width` lanes; all lanes of the warp
// have to take part.
template <typename T>
__device__ LogSumExp<T> log_sum_exp_of_lanes(
    const T (&values)[kComponentsPerLane], int width) {
  T maximum = values[0];
  VTADL_UNROLL
  for (int i = 1; i < kComponentsPerLane; ++i) {
    maximum = values[i] > maximum ? values[i] : maximum;
  }
  const T shift = log_sum_exp_shift(warp_max(maximum, width));
  T sum = 0;
  VTADL_UNROLL
  for (int i = 0; i < kComponentsPerLane; ++i) {
    sum += exponential(values[i] - shift);
  }
  return {shift, logarithm(warp_sum(sum, width))};
}

// The log-probability of the sample, where `logits_lse` is log Σ exp of the
// logits; adds log π_k under kLogSumExp.
template <typename Scalar, int kFeatures, typename T>
__device__ T mix_lanes(Mixture mixture, const LogSumExp<T>& logits_lse,
                       LaneOfSample<Scalar, kFeatures>& lane, int width) {
  if (mixture == Mixture::kLogSumExp) {
    VTADL_UNROLL
    for (int i = 0; i < kComponentsPerLane; ++i) {
      const T log_pi = logits_lse.log_softmax(lane.logit[i]);
      lane.component_log_prob[i] =
          joint_log_prob(log_pi, lane.component_log_prob[i]);
    }
    return log_sum_exp_of_lanes(lane.component_log_prob, width).total();
  }
  T sum = 0;
  VTADL_UNROLL
  for (int i = 0; i < kComponentsPerLane; ++i) {
    const T pi = logits_lse.softmax(lane.logit[i]);
    sum += weighted_log_prob(pi, lane.component_log_prob[i]);
  }
  return expected_log_normal(logits_lse, warp_sum(sum, width));
}

// Stores the gradient of a parameter of one component, which may be the same
// for all features. finish(d, sum) makes the gradient of a sum for feature d.
template <typename Scalar, int kFeatures, typename T, typename Finish>
__device__ void store_grad(Scalar* grad, const GmmParameter& parameter,
                           int64_t at, T (&values)[kFeatures],
                           const Finish& finish) {
  if (parameter.size == kFeatures) {
    VTADL_UNROLL
    for (int d = 0; d < kFeatures; ++d) values[d] = finish(d, values[d]);
    return store(grad + at * kFeatures, values);
  }
  T sum = 0;
  VTADL_UNROLL
  for (int d = 0; d < kFeatures; ++d) sum += values[d];
  grad[at] = static_cast<Scalar>(finish(0, sum));
}

// Writes all gradients that belong to one sample; all lanes of the warp have to
// take part.
template <typename Scalar, int kFeatures, typename T>
__device__ void backward_of_lanes(const GmmBackward& p,
                                  const OwnGrads<Scalar>& own, int64_t n,
                                  int count, int width,
                                  const LaneOfSample<Scalar, kFeatures>& lane,
                                  const LogSumExp<T>& logits_lse, T log_prob) {
  const T sample_grad = log_prob_grad<T>(p, n);
  T grad_x[kFeatures] = {};
  VTADL_UNROLL
  for (int i = 0; i < kComponentsPerLane; ++i) {
    const int k = lane_of(width) + i * width;
    if (k >= count) continue;
    const int64_t at = n * p.components + k;
    const auto [grad, grad_logit] = component_grad(
        p.mixture, sample_grad, logits_lse.softmax(lane.logit[i]),
        lane.component_log_prob[i], log_prob);
    if (p.grad_log_normal) static_cast<T*>(p.grad_log_normal)[at] = grad;
    if (p.grad_logits) static_cast<T*>(p.grad_logits)[at] = grad_logit;
    T grad_mean[kFeatures] = {}, grad_log_std[kFeatures] = {};
    if (grad != 0) {
      VTADL_UNROLL
      for (int d = 0; d < kFeatures; ++d) {
        const auto part = feature_grad(grad, lane.z[i][d]);
        grad_mean[d] = part.mean(lane.scale[i][d].inverse_std);
        grad_log_std[d] = part.log_std;
        grad_x[d] -= grad_mean[d];
      }
    }
    if (own.mu) {
      store_grad(own.mu, p.mu, at, grad_mean, [](int, T sum) { return sum; });
    }
    if (own.scale) {
      store_grad(own.scale, p.scale, at, grad_log_std, [&](int d, T sum) {
        return chain(p.scale_param, sum, lane.scale[i][d]);
      });
    }
  }
  VTADL_UNROLL
  for (int d = 0; d < kFeatures; ++d) grad_x[d] = warp_sum(grad_x[d], width);
  if (p.grad_x && count > 0 && lane_of(width) == 0) {
    store(static_cast<T*>(p.grad_x) + n * kFeatures, grad_x);
  }
}

// The kernel writes log_prob and component_log_prob where they are asked for,
// and with kGradients the gradients. It reads logits, mu, scale and x once, 2 U
// + N·K + N·D elements, and writes each result once. A quarter of the threads
// that a multiprocessor holds are resident with the gradients of 4 features,
// half with those of 1.
template <typename Scalar, int kFeatures, bool kGradients,
          typename T = Accumulate<Scalar>>
__global__ void few_features_kernel(GmmForwardBackward p, OwnGrads<Scalar> own,
                                    int width, Floor<T> floor) {
  const GmmForward& f = p.forward;
  for_each_item(f.samples, width, [&](int64_t item, bool in_use) {
    const int64_t n = in_use ? item : 0;
    const int count = in_use ? static_cast<int>(f.components) : 0;
    LaneOfSample<Scalar, kFeatures> lane(f, n, count, width, floor);
    LogSumExp<T> logits_lse{};
    T log_prob = 0;
    if (f.mixture != Mixture::kNone) {
      logits_lse = log_sum_exp_of_lanes(lane.logit, width);
      log_prob = mix_lanes(f.mixture, logits_lse, lane, width);
      if (f.log_prob && count > 0 && lane_of(width) == 0) {
        static_cast<T*>(f.log_prob)[n] = log_prob;
      }
    }
    if (f.keeps_components) {
      VTADL_UNROLL
      for (int i = 0; i < kComponentsPerLane; ++i) {
        const int k = lane_of(width) + i * width;
        if (k >= count) break;
        static_cast<T*>(f.component_log_prob)[n * f.components + k] =
            lane.component_log_prob[i];
      }
    }
    if constexpr (kGradients) {
      backward_of_lanes(p.backward, own, n, count, width, lane, logits_lse,
                        log_prob);
    }
  });
}

// ----------------------------------------------------------------- launchers

// Calls body with the number of features as a constant.
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
        return body(std::integral_constant<int, kMaxFewFeatures>());
    }
  } else {
    throw std::logic_error("the plan chose few features for doubles");
  }
}

template <typename Scalar, bool kGradients>
void launch_few_features(const GmmForwardBackward& p,
                         const OwnGrads<Scalar>& own, void* stream) {
  const GmmForward& f = p.forward;
  const GroupShape shape = mixing_shape(f);
  dispatch_few_features<Scalar>(f.features, [&](auto features) {
    launch("gmm few_features_kernel",
           few_features_kernel<Scalar, decltype(features)::value, kGradients>,
           shape.launch, stream, p, own, shape.width,
           Floor<Accumulate<Scalar>>(f.min_std));
  });
}

template <typename Scalar>
void few_features_forward(const GmmForward& p, void* stream) {
  launch_few_features<Scalar, false>({p, {}}, {}, stream);
}

// The gradients with respect to log N_k are kept only for those that are sums.
template <typename Scalar>
void few_features_forward_backward(GmmForwardBackward p, const GradPlan& grads,
                                   void* stream) {
  if (grads.launches == 0) p.backward.grad_log_normal = nullptr;
  launch_few_features<Scalar, true>(p, grads.own<Scalar>(), stream);
}

// The kernel repeats the forward pass, in registers, instead of reading its
// results.
template <typename Scalar>
void few_features_backward(const GmmBackward& p, const GradPlan& grads,
                           void* stream) {
  GmmForwardBackward both{};
  static_cast<GmmProblem&>(both.forward) = p;
  both.forward.keeps_components = false;
  both.backward = p;
  few_features_forward_backward<Scalar>(both, grads, stream);
}

}  // namespace vtadl::gmm
