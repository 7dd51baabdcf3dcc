// Every formula of the mixture likelihood but the activation of the scale
// (scale_param.h), for scalars and vectors on the host and for the device.
// Kernels fetch, reduce and store.
#pragma once

#include <cmath>

#include "common/dispatch.h"
#include "common/simd.h"
#include "gmm/gmm.h"

namespace vtadl::gmm {

constexpr double kLog2Pi = 1.8378770664093454835607;

// In this file T is a float or a double, on the host also a vector.

// -------------------------------------------------------------- one component

// The standardised residual z of one feature.
template <typename T>
VTADL_INLINE T standardize(T x, T mean, T inverse_std) {
  return (x - mean) * inverse_std;
}

// log N_k, from Σ log_std and Σ z². Where the latter overflows the sample is
// impossible, even if Σ log_std is -inf.
template <typename T>
VTADL_INLINE T log_normal(std::int64_t features, T log_det, T distance) {
  using S = ScalarOf<T>;
  const T value = S(-0.5 * kLog2Pi) * static_cast<S>(features) - log_det -
                  S(0.5) * distance;
  const auto is_apart = (distance == INFINITY) & (log_det == -INFINITY);
  return select(is_apart, log_det, value);
}

// Gradients of one feature of one component: with respect to mean / std, and to
// log_std. The gradient with respect to the mean follows from the former, and
// is the negative of the gradient with respect to x.
template <typename T>
struct FeatureGrad {
  T standardized_mean, log_std;

  VTADL_INLINE T mean(T inverse_std) const {
    return standardized_mean * inverse_std;
  }
};

// `grad` is the gradient with respect to log N_k.
template <typename T>
VTADL_INLINE FeatureGrad<T> feature_grad(T grad, T z) {
  const T standardized_mean = grad * z;
  return {standardized_mean, standardized_mean * z - grad};
}

// Under a Cholesky factor L the residuals are y = L⁻¹ (x - mean), found one
// after the other: `residual` is (x - mean)_i - Σ_j<i L_ij y_j. The result is
// bounded, so that multiples of y are numbers; the square of the bound is not.
template <typename T>
VTADL_INLINE T solve_row(T residual, T inverse_std) {
  using S = ScalarOf<T>;
  const T most = broadcast<T>(S(sizeof(S) == 4 ? 0x1p65 : 0x1p513));
  return maximum(minimum(residual * inverse_std, most), -most);
}

// u = L⁻ᵀ y is found from the last to the first: `residual` is
// y_i - Σ_j>i L_ji u_j.
template <typename T>
VTADL_INLINE T solve_row_transposed(T residual, T inverse_std) {
  return residual * inverse_std;
}

template <typename T>
VTADL_INLINE ActivatedScale<T> activate_tril_diagonal(T raw) {
  return Activation<ScaleParam::kStd>::activate(raw);
}

// The gradient with respect to mean i, from u_i.
template <typename T>
VTADL_INLINE T tril_mean_grad(T grad, T u) {
  return grad * u;
}

// The gradient with respect to L_ij, j <= i, from y_j and the gradient of mean
// i. On the diagonal the gradient of log det is subtracted.
template <typename T>
VTADL_INLINE T tril_grad(T grad_mean, T y) {
  return grad_mean * y;
}
template <typename T>
VTADL_INLINE T tril_log_det_grad(T grad, const ActivatedScale<T>& diagonal) {
  return chain<ScaleParam::kStd>(grad, diagonal);
}

// ---------------------------------------------------------------- the mixture

// exp(log_p), where log_p may be -inf.
template <typename T>
VTADL_INLINE T probability(T log_p) {
  return select(log_p == -INFINITY, T{}, exponential(log_p));
}

// log Σ exp(l) = shift + log_sum, with log_sum = log Σ exp(l - shift). The
// two are kept apart, because a large shift swallows the digits of the sum.
template <typename T>
struct LogSumExp {
  T shift, log_sum;

  VTADL_INLINE T total() const { return shift + log_sum; }

  // l - log Σ exp(l), where l may be -inf; not a number where it is +inf.
  VTADL_INLINE T log_softmax(T l) const {
    return select(l == -INFINITY, l, (l - shift) - log_sum);
  }

  // exp(l) / Σ exp(l): π_k of a logit, or the responsibility of a component.
  VTADL_INLINE T softmax(T l) const { return probability(log_softmax(l)); }
};

// The shift is the maximum, or 0 where that is infinite: -inf - -inf is not a
// number.
template <typename T>
VTADL_INLINE T log_sum_exp_shift(T maximum) {
  return select(is_infinite(maximum), T{}, maximum);
}

// log π_k + log N_k. A masked component may hold anything.
template <typename T>
VTADL_INLINE T joint_log_prob(T log_pi, T log_normal) {
  return select(log_pi == -INFINITY, log_pi, log_pi + log_normal);
}

// π_k log N_k, the addend of Mixture::kWeighted.
template <typename T>
VTADL_INLINE T weighted_log_prob(T pi, T log_normal) {
  return select(pi == 0, T{}, pi * log_normal);
}

// Σ_k π_k log N_k, from the sum of the addends: -inf where all components are
// masked.
template <typename T>
VTADL_INLINE T expected_log_normal(const LogSumExp<T>& logits_lse, T sum) {
  return select(logits_lse.log_sum == -INFINITY, logits_lse.log_sum, sum);
}

// Gradients of one sample with respect to log N_k and logits_k.
template <typename T>
struct ComponentGrad {
  T log_normal, logit;
};

// `grad` is the gradient with respect to log_prob. `component_log_prob` is
// log N_k, and under kLogSumExp log π_k + log N_k. A zero gradient stays zero,
// whatever the sample holds.
template <typename T>
VTADL_INLINE ComponentGrad<T> component_grad(Mixture mixture, T grad, T pi,
                                             T component_log_prob, T log_prob) {
  ComponentGrad<T> part;
  if (mixture == Mixture::kWeighted) {
    part = {pi, select(pi == 0, T{}, pi * (component_log_prob - log_prob))};
  } else {
    const T responsibility =
        LogSumExp<T>{log_prob, T{}}.softmax(component_log_prob);
    part = {responsibility, responsibility - pi};
  }
  const auto plateau = is_infinite(log_prob);  // no direction
  const auto none = plateau | (grad == 0);
  return {select(none, T{}, grad * part.log_normal),
          select(none, T{}, grad * part.logit)};
}

}  // namespace vtadl::gmm
