// The formulas of the mixture likelihood, for host and device.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "common/simd.h"
#include "gmm/gmm.h"

namespace vtadl::gmm {

template <ScaleParam kParam>
using Constant = std::integral_constant<ScaleParam, kParam>;

constexpr double kLog2Pi = 1.8378770664093454835607;

// In the functions below T is a float or a double, on the host also a vector.

template <typename T>
VTADL_INLINE T exponential(T x) {
#ifdef __CUDA_ARCH__
  return ::exp(x);
#else
  return vector_exp(x);
#endif
}

template <typename T>
VTADL_INLINE T logarithm(T x) {
#ifdef __CUDA_ARCH__
  return ::log(x);
#else
  return vector_log(x);
#endif
}

// log(1 + x) for x in [0, 1].
template <typename T>
VTADL_INLINE T logarithm_of_one_plus(T x) {
#ifdef __CUDA_ARCH__
  return ::log1p(x);
#else
  return vector_log1p(x);
#endif
}

// The least std that distances are divided by: the least normal number, for
// its inverse is one too. A smaller std counts as this one there.
template <typename S>
constexpr S kLeastStd = std::numeric_limits<S>::min();
template <typename S>
constexpr S kLogLeastStd =
    S(sizeof(S) == 4 ? -87.33654475055310898666 : -708.39641853226410622);

template <typename S>
constexpr S kLeastNumber = std::numeric_limits<S>::denorm_min();

// std = max(activation(raw), min_std), kept as what the formulas need. Only
// ever multiplied by 1/std: std² would under- and overflow. Numbers where raw
// is one, but for the logarithm: 0 times them is 0.
template <typename T>
struct Scale {
  T inverse_std;
  T log_std;
  T slope;  // see chain(); 0 on the floor
};

template <typename S>
struct Floor {
  S inverse_std, log_std;
  S least_log_std;  // of an inverse

  VTADL_INLINE explicit Floor(double min_std)
      : inverse_std(static_cast<S>(
            1 / (min_std > kLeastStd<S> ? min_std : double(kLeastStd<S>)))),
        log_std(static_cast<S>(std::log(min_std))),
        least_log_std(log_std > kLogLeastStd<S> ? log_std : kLogLeastStd<S>) {}
};

template <ScaleParam kParam, typename T>
VTADL_INLINE Scale<T> activate(T raw) {
  using S = ScalarOf<T>;
  const T one = broadcast<T>(1);
  const T least = broadcast<T>(kLeastStd<S>);
  const T subnormal = broadcast<T>(kLeastNumber<S>);
  if constexpr (kParam == ScaleParam::kStd) {
    return {one / maximum(raw, least), logarithm(raw),
            select(raw < least, least / maximum(raw, subnormal), one)};
  } else if constexpr (kParam == ScaleParam::kVar) {
    const T std = select(raw < subnormal, least, vector_sqrt(raw));
    const T inverse_std = one / std;
    return {inverse_std, S(0.5) * logarithm(raw), S(0.5) * inverse_std};
  } else {
    static_assert(kParam == ScaleParam::kSoftplus);
    const auto positive = raw > 0;
    const T decay = exponential(select(positive, -raw, raw));  // exp(-|raw|)
    const T std = select(positive, raw, T{}) + logarithm_of_one_plus(decay);
    const T sigmoid = select(positive, one, decay) / (one + decay);
    // Far below 0 softplus(raw) = exp(raw), which may underflow.
    const auto tiny = raw < S(-50);
    const T inverse_of_tiny =
        exponential(-maximum(raw, broadcast<T>(kLogLeastStd<S>)));
    return {select(tiny, inverse_of_tiny, one / std),
            select(tiny, raw, logarithm(std)),
            select(tiny, one, sigmoid / std)};
  }
}

template <ScaleParam kParam, typename T>
VTADL_INLINE Scale<T> activate(T raw, const Floor<ScalarOf<T>>& floor) {
  if constexpr (kParam == ScaleParam::kLogStd ||
                kParam == ScaleParam::kLogVar) {
    // Here the floor costs no more than a comparison.
    constexpr auto kSlope =
        ScalarOf<T>(kParam == ScaleParam::kLogStd ? 1 : 0.5);
    const T log_std = kSlope * raw;
    return {exponential(-maximum(log_std, broadcast<T>(floor.least_log_std))),
            maximum(log_std, broadcast<T>(floor.log_std)),
            select(log_std < floor.log_std, T{}, broadcast<T>(kSlope))};
  } else {
    const Scale<T> scale = activate<kParam>(raw);
    const auto floored = scale.log_std < floor.log_std;
    return {select(floored, broadcast<T>(floor.inverse_std), scale.inverse_std),
            select(floored, broadcast<T>(floor.log_std), scale.log_std),
            select(floored, T{}, scale.slope)};
  }
}

// The same where the parametrisation is known at run time only.
template <typename T>
VTADL_INLINE Scale<T> activate(ScaleParam param, T raw,
                               const Floor<ScalarOf<T>>& floor) {
  switch (param) {
    case ScaleParam::kLogStd:
      return activate<ScaleParam::kLogStd>(raw, floor);
    case ScaleParam::kStd:
      return activate<ScaleParam::kStd>(raw, floor);
    case ScaleParam::kLogVar:
      return activate<ScaleParam::kLogVar>(raw, floor);
    case ScaleParam::kVar:
      return activate<ScaleParam::kVar>(raw, floor);
    default:
      return activate<ScaleParam::kSoftplus>(raw, floor);
  }
}

// The gradient with respect to raw, from that with respect to log_std:
// d log_std / d raw = slope, times inverse_std for std and var. One factor
// after the other, for both together may be too large a number. No gradient
// stays none, whatever the scale holds.
template <typename T>
VTADL_INLINE T chain(ScaleParam param, T grad, const Scale<T>& scale) {
  const T part = grad * scale.slope;
  const bool is_steep = param == ScaleParam::kStd || param == ScaleParam::kVar;
  return select(grad == 0, T{}, is_steep ? part * scale.inverse_std : part);
}

// log N_k of a distance Σ z². Where that overflows the sample is impossible,
// even if Σ log_std is -inf.
template <typename T>
VTADL_INLINE T log_normal(std::int64_t features, T log_det, T distance) {
  using S = ScalarOf<T>;
  const T value = S(-0.5 * kLog2Pi) * static_cast<S>(features) - log_det -
                  S(0.5) * distance;
  const auto is_apart = (distance == INFINITY) & (log_det == -INFINITY);
  return select(is_apart, log_det, value);
}

// The coordinates that a Cholesky factor's rows divide by its diagonal, so
// bounded that their multiples are numbers; the square of the bound is not.
template <typename T>
VTADL_INLINE T bounded(T coordinate) {
  using S = ScalarOf<T>;
  const T most = broadcast<T>(S(sizeof(S) == 4 ? 0x1p65 : 0x1p513));
  return maximum(minimum(coordinate, most), -most);
}

// log Σ exp(l) = shift + log_sum, with log_sum = log Σ exp(l - shift). Kept
// apart, because a large shift swallows the digits of the sum.
template <typename T>
struct LogSumExp {
  T shift, log_sum;

  VTADL_INLINE T total() const { return shift + log_sum; }

  // l - log Σ exp(l), where l may be -inf; not a number where it is +inf.
  VTADL_INLINE T normalize(T l) const {
    return select(l == -INFINITY, l, (l - shift) - log_sum);
  }

  // exp(l) / Σ exp(l): the weight of a component, or a responsibility.
  VTADL_INLINE T share(T l) const {
    return select(l == -INFINITY, T{}, exponential(normalize(l)));
  }
};

// The shift is the maximum, or 0 where that is infinite: -inf - -inf is not a
// number.
template <typename T>
VTADL_INLINE T log_sum_exp_shift(T maximum) {
  return select(is_infinite(maximum), T{}, maximum);
}

// Gradients of one sample's component k, where `grad` is that of its log_prob:
// `weight`, with respect to log N_k, and that of logits_k. Without an upstream
// gradient there is none, whatever the sample holds.
template <typename T>
struct ComponentGrad {
  T weight, logit;
};

template <typename T>
VTADL_INLINE ComponentGrad<T> component_grad(Mixture mixture, T grad, T pi,
                                             T component_log_prob, T log_prob) {
  ComponentGrad<T> part;
  if (mixture == Mixture::kWeighted) {
    part = {pi, select(pi == 0, T{}, pi * (component_log_prob - log_prob))};
  } else {
    const T responsibility =
        LogSumExp<T>{log_prob, T{}}.share(component_log_prob);
    part = {responsibility, responsibility - pi};
  }
  const auto plateau = is_infinite(log_prob);  // no direction
  const auto none = plateau | (grad == 0);
  return {select(none, T{}, grad * part.weight),
          select(none, T{}, grad * part.logit)};
}

// Calls body with a zero of the element type and the parametrisation, both as
// types.
template <typename Body>
VTADL_HOST_INLINE void dispatch(const GmmProblem& p, const Body& body) {
  vtadl::dispatch(p.dtype, [&](auto zero) {
    switch (p.scale_param) {
      case ScaleParam::kLogStd:
        return body(zero, Constant<ScaleParam::kLogStd>());
      case ScaleParam::kStd:
        return body(zero, Constant<ScaleParam::kStd>());
      case ScaleParam::kLogVar:
        return body(zero, Constant<ScaleParam::kLogVar>());
      case ScaleParam::kVar:
        return body(zero, Constant<ScaleParam::kVar>());
      case ScaleParam::kSoftplus:
        return body(zero, Constant<ScaleParam::kSoftplus>());
      case ScaleParam::kTril:
        return body(zero, Constant<ScaleParam::kTril>());
    }
  });
}

}  // namespace vtadl::gmm
