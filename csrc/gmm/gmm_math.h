// The formulas of the mixture likelihood, for host and device.
#pragma once

#include <cmath>

#include "common/simd.h"
#include "gmm/gmm.h"

namespace vtadl::gmm {

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
    const T inverse_std = 1 / ((raw > 0 ? raw : T(0)) + std::log1p(decay));
    const T sigmoid = (raw > 0 ? T(1) : decay) / (1 + decay);
    return {inverse_std, -std::log(inverse_std), sigmoid * inverse_std};
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

// Calls body with activate<param>.
template <typename T, typename Body>
VTADL_INLINE void with_activation(ScaleParam param, const Body& body) {
  const auto call = [&](auto constant) {
    body([](T raw, const Floor<T>& floor) {
      return activate<decltype(constant)::value>(raw, floor);
    });
  };
  switch (param) {
    case ScaleParam::kLogStd:
      return call(std::integral_constant<ScaleParam, ScaleParam::kLogStd>());
    case ScaleParam::kStd:
      return call(std::integral_constant<ScaleParam, ScaleParam::kStd>());
    case ScaleParam::kLogVar:
      return call(std::integral_constant<ScaleParam, ScaleParam::kLogVar>());
    case ScaleParam::kVar:
      return call(std::integral_constant<ScaleParam, ScaleParam::kVar>());
    case ScaleParam::kSoftplus:
      return call(std::integral_constant<ScaleParam, ScaleParam::kSoftplus>());
  }
}

}  // namespace vtadl::gmm
