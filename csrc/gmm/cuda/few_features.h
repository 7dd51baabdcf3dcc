// A kernel for so few features, and no more components than a warp's registers
// hold, that all of a sample is read once: a group of lanes per sample, and a
// lane computes whole components.
#pragma once

#include "gmm/cuda/mixing.h"

namespace vtadl::gmm {

constexpr int kFewFeatures = 4;

// What a lane holds of a sample: components lane, lane + width, … of it. Where
// there are no more, log N_k and logits_k are -inf.
template <typename Scalar, int kFeatures, typename T = Accumulate<Scalar>>
struct LaneOfSample {
  T logit[kComponentsPerLane], log_prob[kComponentsPerLane];
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
        logit[i] = log_prob[i] = -static_cast<T>(INFINITY);
        if (k >= count) continue;
        if (logits) logit[i] = static_cast<T>(logits[k]);
        T mean[kFeatures], raw[kFeatures];
        ComponentParameter<Scalar>(p.mu, mu_row, k).load(0, mean);
        ComponentParameter<Scalar>(p.scale, scale_row, k).load(0, raw);
        T log_det = 0, distance = 0;
        VTADL_UNROLL
        for (int d = 0; d < kFeatures; ++d) {
          scale[i][d] = activate<decltype(param)::value>(raw[d], floor);
          z[i][d] = (x[d] - mean[d]) * scale[i][d].inverse_std;
          log_det += scale[i][d].log_std;
          distance += z[i][d] * z[i][d];
        }
        log_prob[i] = log_normal(kFeatures, log_det, distance);
      }
    });
  }
};

// Over the values of a group of `width` lanes; all lanes of the warp have to
// take part.
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
  return {shift, std::log(warp_sum(sum, width))};
}

// The log-probability of the sample; adds log π_k under kLogSumExp.
template <typename Scalar, int kFeatures, typename T>
__device__ T mix_lanes(Mixture mixture, const LogSumExp<T>& weights,
                       LaneOfSample<Scalar, kFeatures>& lane, int width) {
  if (mixture == Mixture::kLogSumExp) {
    VTADL_UNROLL
    for (int i = 0; i < kComponentsPerLane; ++i) {
      const T log_pi = weights.log_softmax(lane.logit[i]);
      lane.log_prob[i] =
          log_pi == -INFINITY ? log_pi : lane.log_prob[i] + log_pi;
    }
    return log_sum_exp_of_lanes(lane.log_prob, width).total();
  }
  T sum = 0;
  VTADL_UNROLL
  for (int i = 0; i < kComponentsPerLane; ++i) {
    const T pi = weights.softmax(lane.logit[i]);
    sum += pi == 0 ? T(0) : pi * lane.log_prob[i];
  }
  sum = warp_sum(sum, width);
  return weights.log_sum == -INFINITY ? weights.log_sum : sum;  // all masked
}

// The gradient of a parameter of one component, which may be the same for all
// features. finish(d, sum): what to make of a sum for feature d.
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

// All gradients that have a row for each sample; all lanes of the warp have to
// take part.
template <typename Scalar, int kFeatures, typename T>
__device__ void backward_of_lanes(const GmmBackward& p,
                                  const FewFeaturesGrads<Scalar>& grads,
                                  int64_t n, int count, int width,
                                  const LaneOfSample<Scalar, kFeatures>& lane,
                                  const LogSumExp<T>& weights, T log_prob) {
  const T sample_grad = p.grad ? static_cast<const T*>(p.grad)[n]
                               : static_cast<T>(p.constant_grad);
  T grad_x[kFeatures] = {};
  VTADL_UNROLL
  for (int i = 0; i < kComponentsPerLane; ++i) {
    const int k = lane_of(width) + i * width;
    if (k >= count) continue;
    const int64_t at = n * p.components + k;
    const auto [weight, logit] =
        component_grad(p.mixture, sample_grad, weights.softmax(lane.logit[i]),
                       lane.log_prob[i], log_prob);
    if (grads.keeps_weights) static_cast<T*>(p.grad_log_normal)[at] = weight;
    if (p.grad_logits) {
      static_cast<T*>(p.grad_logits)[at] = logit;
    }
    T pull[kFeatures] = {}, stretch[kFeatures] = {};
    if (weight != 0) {
      VTADL_UNROLL
      for (int d = 0; d < kFeatures; ++d) {
        const T z = lane.z[i][d];
        pull[d] = weight * z * lane.scale[i][d].inverse_std;
        stretch[d] = weight * (z * z - 1);
        grad_x[d] -= pull[d];
      }
    }
    if (grads.mu) {
      store_grad(grads.mu, p.mu, at, pull, [](int, T sum) { return sum; });
    }
    if (grads.scale) {
      store_grad(grads.scale, p.scale, at, stretch, [&](int d, T sum) {
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

// What is asked for of log_prob and component_log_prob, and with kGradients the
// gradients. Reads logits, mu, scale and x once, 2 U + N·K + N·D elements, and
// writes what is asked for once. A quarter of the threads that a multiprocessor
// holds with the gradients of 4 features, half with those of 1.
template <typename Scalar, int kFeatures, bool kGradients,
          typename T = Accumulate<Scalar>>
__global__ void few_features_kernel(GmmForwardBackward p,
                                    FewFeaturesGrads<Scalar> grads, int width,
                                    Floor<T> floor) {
  const GmmForward& f = p.forward;
  const GroupStride group(width);
  const int64_t warp_first = group.warp_first(width);
  for (int64_t offset = 0; warp_first + offset < f.samples;
       offset += group.step) {
    const bool in_use = group.first + offset < f.samples;
    const int64_t n = in_use ? group.first + offset : 0;
    const int count = in_use ? static_cast<int>(f.components) : 0;
    LaneOfSample<Scalar, kFeatures> lane(f, n, count, width, floor);
    LogSumExp<T> weights{};
    T log_prob = 0;
    if (f.mixture != Mixture::kNone) {
      weights = log_sum_exp_of_lanes(lane.logit, width);
      log_prob = mix_lanes(f.mixture, weights, lane, width);
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
            lane.log_prob[i];
      }
    }
    if constexpr (kGradients) {
      backward_of_lanes(p.backward, grads, n, count, width, lane, weights,
                        log_prob);
    }
  }
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

inline bool is_few_features(const GmmProblem& p) {
  return p.dtype != DType::kFloat64 && p.features <= kFewFeatures &&
         p.components <= kComponentsPerLane * kWarp &&
         aligned({p.x, p.mu.data, p.scale.data});
}

inline bool has_few_features(const GmmForward& p) { return is_few_features(p); }

inline bool has_few_features(const GmmBackward& p) {
  return is_few_features(p) && p.mixture != Mixture::kNone &&
         aligned({p.grad_x, p.grad_mu, p.grad_scale});
}

template <typename Scalar, bool kGradients>
void launch_few_features(const GmmForwardBackward& p, void* stream) {
  const GmmForward& f = p.forward;
  const MixingShape shape = mixing_shape(f);
  dispatch_few_features<Scalar>(f.features, [&](auto features) {
    launch("gmm few_features_kernel",
           few_features_kernel<Scalar, decltype(features)::value, kGradients>,
           shape.launch, stream, p, FewFeaturesGrads<Scalar>(p.backward),
           shape.width, Floor<Accumulate<Scalar>>(f.min_std));
  });
}

template <typename Scalar>
void few_features_forward(const GmmForward& p, void* stream) {
  launch_few_features<Scalar, false>({p, {}}, stream);
}

// What the forward pass found is found again.
template <typename Scalar>
void few_features_backward(const GmmBackward& p, void* stream) {
  GmmForwardBackward both{};
  static_cast<GmmProblem&>(both.forward) = p;
  both.forward.keeps_components = false;
  both.backward = p;
  launch_few_features<Scalar, true>(both, stream);
}

template <typename Scalar>
void few_features_forward_backward(const GmmForwardBackward& p, void* stream) {
  launch_few_features<Scalar, true>(p, stream);
}

}  // namespace vtadl::gmm
