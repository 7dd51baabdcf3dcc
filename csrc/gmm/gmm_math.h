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

template <typename T>
VTADL_INLINE T exponential(T x) {
#ifdef __CUDA_ARCH__
  return ::exp(x);
#else
  return vector_exp(x);
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

template <typename T>
struct Floor {
  T inverse_std, log_std;

  VTADL_INLINE explicit Floor(double min_std)
      : inverse_std(static_cast<T>(1 / min_std)),
        log_std(static_cast<T>(std::log(min_std))) {}
};

template <ScaleParam kParam, typename T>
VTADL_INLINE Scale<T> activate(T raw) {
  if constexpr (kParam == ScaleParam::kLogStd) {
    return {exponential(-raw), raw, T(1)};
  } else if constexpr (kParam == ScaleParam::kStd) {
    return {1 / raw, std::log(raw), 1 / raw};
  } else if constexpr (kParam == ScaleParam::kLogVar) {
    return {exponential(T(-0.5) * raw), T(0.5) * raw, T(0.5)};
  } else if constexpr (kParam == ScaleParam::kVar) {
    return {1 / std::sqrt(raw), T(0.5) * std::log(raw), T(0.5) / raw};
  } else {
    const T decay = exponential(raw > 0 ? -raw : raw);  // exp(-|raw|)
    const T std = (raw > 0 ? raw : T(0)) + std::log1p(decay);
    const T sigmoid = (raw > 0 ? T(1) : decay) / (1 + decay);
    // Far below 0 softplus(raw) = exp(raw), which may underflow.
    const bool tiny = raw < T(-50);
    return {tiny ? exponential(-raw) : 1 / std, tiny ? raw : std::log(std),
            tiny ? T(1) : sigmoid / std};
  }
}

template <ScaleParam kParam, typename T>
VTADL_INLINE Scale<T> activate(T raw, const Floor<T>& floor) {
  const Scale<T> scale = activate<kParam>(raw);
  const bool floored = scale.log_std < floor.log_std;
  return {floored ? floor.inverse_std : scale.inverse_std,
          floored ? floor.log_std : scale.log_std,
          floored ? T(0) : scale.slope};
}

// The same where the parametrisation is known at run time only.
template <typename T>
VTADL_INLINE Scale<T> activate(ScaleParam param, T raw, const Floor<T>& floor) {
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

// log Σ exp(l) = shift + log_sum, with log_sum = log Σ exp(l - shift). Kept
// apart, because a large shift swallows the digits of the sum.
template <typename T>
struct LogSumExp {
  T shift, log_sum;

  VTADL_INLINE T total() const { return shift + log_sum; }

  // l - log Σ exp(l), where l may be -inf.
  VTADL_INLINE T normalize(T l) const {
    return std::isinf(l) ? l : (l - shift) - log_sum;
  }

  // exp(l) / Σ exp(l): the weight of a component, or a responsibility.
  VTADL_INLINE T share(T l) const {
    return std::isinf(l) ? T(0) : exponential(normalize(l));
  }
};

// The shift is the maximum, or 0 where that is infinite: -inf - -inf is not a
// number.
template <typename T>
VTADL_INLINE T log_sum_exp_shift(T maximum) {
  return std::isinf(maximum) ? T(0) : maximum;
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
  if (std::isinf(log_prob)) return {T(0), T(0)};  // a plateau: no direction
  if (mixture == Mixture::kWeighted) {
    return {pi, pi == 0 ? T(0) : pi * (component_log_prob - log_prob)};
  }
  const T responsibility =
      LogSumExp<T>{log_prob, T(0)}.share(component_log_prob);
  return {responsibility, responsibility - pi};
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
    }
  });
}

}  // namespace vtadl::gmm
