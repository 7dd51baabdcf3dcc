// The formulas of the mixture likelihood, for host and device.
#pragma once

#include <cmath>
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

// std = max(activation(raw), min_std), kept as what the formulas need. Only
// ever multiplied by 1/std: std² would under- and overflow.
template <typename T>
struct Scale {
  T inverse_std;
  T log_std;
  T slope;  // d log_std / d raw; 0 on the floor
};

template <typename S>
struct Floor {
  S inverse_std, log_std;

  VTADL_INLINE explicit Floor(double min_std)
      : inverse_std(static_cast<S>(1 / min_std)),
        log_std(static_cast<S>(std::log(min_std))) {}
};

template <ScaleParam kParam, typename T>
VTADL_INLINE Scale<T> activate(T raw) {
  using S = ScalarOf<T>;
  const T one = broadcast<T>(1);
  if constexpr (kParam == ScaleParam::kLogStd) {
    return {exponential(-raw), raw, one};
  } else if constexpr (kParam == ScaleParam::kStd) {
    return {one / raw, logarithm(raw), one / raw};
  } else if constexpr (kParam == ScaleParam::kLogVar) {
    return {exponential(S(-0.5) * raw), S(0.5) * raw, broadcast<T>(S(0.5))};
  } else if constexpr (kParam == ScaleParam::kVar) {
    return {one / vector_sqrt(raw), S(0.5) * logarithm(raw), S(0.5) / raw};
  } else {
    static_assert(kParam == ScaleParam::kSoftplus);
    const auto positive = raw > 0;
    const T decay = exponential(select(positive, -raw, raw));  // exp(-|raw|)
    const T std = select(positive, raw, T{}) + logarithm_of_one_plus(decay);
    const T sigmoid = select(positive, one, decay) / (one + decay);
    // Far below 0 softplus(raw) = exp(raw), which may underflow.
    const auto tiny = raw < S(-50);
    return {select(tiny, exponential(-raw), one / std),
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
    const T floored = maximum(log_std, broadcast<T>(floor.log_std));
    return {exponential(-floored), floored,
            select(log_std < floor.log_std, T{}, broadcast<T>(kSlope))};
  }
  const Scale<T> scale = activate<kParam>(raw);
  const auto floored = scale.log_std < floor.log_std;
  return {select(floored, broadcast<T>(floor.inverse_std), scale.inverse_std),
          select(floored, broadcast<T>(floor.log_std), scale.log_std),
          select(floored, T{}, scale.slope)};
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

// The slope at a std too small to invert is infinite.
template <typename T>
VTADL_INLINE T chain(T grad, T slope) {
  return select(grad == 0, T{}, grad * slope);
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

// Gradients of one sample's log-probability with respect to its component k:
// `weight` = d log_prob / d log N_k, and d log_prob / d logits_k.
template <typename T>
struct ComponentGrad {
  T weight, logit;
};

template <typename T>
VTADL_INLINE ComponentGrad<T> component_grad(Mixture mixture, T pi,
                                             T component_log_prob, T log_prob) {
  ComponentGrad<T> grad;
  if (mixture == Mixture::kWeighted) {
    grad = {pi, select(pi == 0, T{}, pi * (component_log_prob - log_prob))};
  } else {
    const T responsibility =
        LogSumExp<T>{log_prob, T{}}.share(component_log_prob);
    grad = {responsibility, responsibility - pi};
  }
  const auto plateau = is_infinite(log_prob);  // no direction
  return {select(plateau, T{}, grad.weight), select(plateau, T{}, grad.logit)};
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
