// The parametrisations of the scale: their numbers, their names, the dispatch
// from a number to a type, and what each makes of a raw scale.
#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

#include "common/simd.h"
#include "gmm/elementary.h"

namespace vtadl {

// What the `scale` argument holds. Operators, and programs exported from them,
// store these numbers: new ones go last.
enum class ScaleParam {
  kLogStd,
  kStd,
  kLogVar,
  kVar,
  kSoftplus,
  kTril,       // a lower Cholesky factor of the covariance, diagonal: std
  kPrecision,  // 1 / std²
};

// The names in Python, in the order of the numbers.
inline constexpr std::array kScaleParamNames = {
    "log_std", "std", "log_var", "var", "softplus", "tril", "precision",
};
static_assert(kScaleParamNames.size() ==
                  static_cast<std::size_t>(ScaleParam::kPrecision) + 1,
              "every enumerator has a name");

namespace gmm {

template <ScaleParam kParam>
using Constant = std::integral_constant<ScaleParam, kParam>;

// The body may be for the host alone, or for the device alone.
#ifdef __CUDACC__
#pragma nv_exec_check_disable
#endif
// Calls body with the parametrisation of each feature as a type. The diagonal
// of a Cholesky factor holds standard deviations.
template <typename Body>
VTADL_INLINE auto with_scale_param(ScaleParam param, const Body& body) {
  switch (param) {
    case ScaleParam::kLogStd:
      return body(Constant<ScaleParam::kLogStd>());
    case ScaleParam::kStd:
    case ScaleParam::kTril:
      return body(Constant<ScaleParam::kStd>());
    case ScaleParam::kLogVar:
      return body(Constant<ScaleParam::kLogVar>());
    case ScaleParam::kVar:
      return body(Constant<ScaleParam::kVar>());
    case ScaleParam::kSoftplus:
      return body(Constant<ScaleParam::kSoftplus>());
    case ScaleParam::kPrecision:
      return body(Constant<ScaleParam::kPrecision>());
  }
  __builtin_unreachable();  // ops.cpp checks the number
}

// In what follows T is a float or a double, on the host also a vector.

// Residuals are divided by no smaller std than the least normal number, whose
// inverse is a normal number, too. A smaller std counts as this one there.
template <typename S>
constexpr S kLeastStd = std::numeric_limits<S>::min();
template <typename S>
constexpr S kLogLeastStd =
    S(sizeof(S) == 4 ? -87.33654475055310898666 : -708.39641853226410622);

template <typename S>
constexpr S kLeastNumber = std::numeric_limits<S>::denorm_min();

// std = max(activation(raw), min_std), kept as what the formulas need. They
// only ever multiply by 1/std: std² would under- and overflow. All but the
// logarithm are finite where raw is: 0 times them is 0.
template <typename T>
struct ActivatedScale {
  T inverse_std;
  T log_std;
  T slope;  // d log_std / d raw, but for a factor that chain() adds
};

// The floor of the standard deviations.
template <typename S>
struct Floor {
  S inverse_std, log_std;
  S least_log_std;  // of which the inverse is taken

  VTADL_INLINE explicit Floor(double min_std)
      : inverse_std(static_cast<S>(
            1 / (min_std > kLeastStd<S> ? min_std : double(kLeastStd<S>)))),
        log_std(static_cast<S>(std::log(min_std))),
        least_log_std(log_std > kLogLeastStd<S> ? log_std : kLogLeastStd<S>) {}
};

template <typename T>
VTADL_INLINE ActivatedScale<T> apply_floor(const ActivatedScale<T>& scale,
                                           const Floor<ScalarOf<T>>& floor) {
  const auto floored = scale.log_std < floor.log_std;
  return {select(floored, broadcast<T>(floor.inverse_std), scale.inverse_std),
          select(floored, broadcast<T>(floor.log_std), scale.log_std),
          select(floored, T{}, scale.slope)};
}

// log_std = raw / kDivisor: here the floor costs no more than a comparison.
template <int kDivisor>
struct LogActivation {
  template <typename T>
  static VTADL_INLINE ActivatedScale<T> activate(
      T raw, const Floor<ScalarOf<T>>& floor) {
    constexpr auto kSlope = ScalarOf<T>(1) / kDivisor;
    const T log_std = kSlope * raw;
    return {exponential(-maximum(log_std, broadcast<T>(floor.least_log_std))),
            maximum(log_std, broadcast<T>(floor.log_std)),
            select(log_std < floor.log_std, T{}, broadcast<T>(kSlope))};
  }

  template <typename T>
  static VTADL_INLINE T chain(T grad, const ActivatedScale<T>& scale) {
    return grad * scale.slope;
  }
};

// Each parametrisation has two functions. activate(raw, floor) returns the
// ActivatedScale. chain(grad, scale) turns the gradient with respect to log_std
// into that with respect to raw, by one factor after the other: both together
// may be too large a number.
template <ScaleParam kParam>
struct Activation;

template <>
struct Activation<ScaleParam::kLogStd> : LogActivation<1> {};

template <>
struct Activation<ScaleParam::kLogVar> : LogActivation<2> {};

// d log_std / d raw = slope / std.
struct ChainByInverseStd {
  template <typename T>
  static VTADL_INLINE T chain(T grad, const ActivatedScale<T>& scale) {
    return grad * scale.slope * scale.inverse_std;
  }
};

template <>
struct Activation<ScaleParam::kStd> : ChainByInverseStd {
  template <typename T>
  static VTADL_INLINE ActivatedScale<T> activate(T raw) {
    using S = ScalarOf<T>;
    const T one = broadcast<T>(1);
    const T least = broadcast<T>(kLeastStd<S>);
    const T subnormal = broadcast<T>(kLeastNumber<S>);
    return {one / maximum(raw, least), logarithm(raw),
            select(raw < least, least / maximum(raw, subnormal), one)};
  }

  template <typename T>
  static VTADL_INLINE ActivatedScale<T> activate(
      T raw, const Floor<ScalarOf<T>>& floor) {
    return apply_floor(activate(raw), floor);
  }
};

template <>
struct Activation<ScaleParam::kVar> : ChainByInverseStd {
  template <typename T>
  static VTADL_INLINE ActivatedScale<T> activate(
      T raw, const Floor<ScalarOf<T>>& floor) {
    using S = ScalarOf<T>;
    const auto too_small = raw < broadcast<T>(kLeastNumber<S>);
    const T std =
        select(too_small, broadcast<T>(kLeastStd<S>), vector_sqrt(raw));
    const T inverse_std = broadcast<T>(1) / std;
    return apply_floor<T>(
        {inverse_std, S(0.5) * logarithm(raw), S(0.5) * inverse_std}, floor);
  }
};

// The slope holds std here.
template <>
struct Activation<ScaleParam::kPrecision> {
  template <typename T>
  static VTADL_INLINE ActivatedScale<T> activate(
      T raw, const Floor<ScalarOf<T>>& floor) {
    using S = ScalarOf<T>;
    const T least = broadcast<T>(kLeastStd<S>);
    const T most = broadcast<T>(1 / kLeastStd<S>);
    const T inverse_std = minimum(vector_sqrt(raw), most);
    return apply_floor<T>({inverse_std, S(-0.5) * logarithm(raw),
                           broadcast<T>(1) / maximum(inverse_std, least)},
                          floor);
  }

  template <typename T>
  static VTADL_INLINE T chain(T grad, const ActivatedScale<T>& scale) {
    return grad * (ScalarOf<T>(-0.5) * scale.slope) * scale.slope;
  }
};

// std = softplus(raw) = log(1 + exp(raw)).
template <>
struct Activation<ScaleParam::kSoftplus> {
  template <typename T>
  static VTADL_INLINE ActivatedScale<T> activate(
      T raw, const Floor<ScalarOf<T>>& floor) {
    using S = ScalarOf<T>;
    const T one = broadcast<T>(1);
    const auto positive = raw > 0;
    const T decay = exponential(select(positive, -raw, raw));  // exp(-|raw|)
    const T std = select(positive, raw, T{}) + logarithm_of_one_plus(decay);
    const T sigmoid = select(positive, one, decay) / (one + decay);
    // Far below 0 softplus(raw) = exp(raw), which may underflow.
    const auto tiny = raw < S(-50);
    const T inverse_of_tiny =
        exponential(-maximum(raw, broadcast<T>(kLogLeastStd<S>)));
    return apply_floor<T>(
        {select(tiny, inverse_of_tiny, one / std),
         select(tiny, raw, logarithm(std)), select(tiny, one, sigmoid / std)},
        floor);
  }

  template <typename T>
  static VTADL_INLINE T chain(T grad, const ActivatedScale<T>& scale) {
    return grad * scale.slope;
  }
};

template <ScaleParam kParam, typename T>
VTADL_INLINE ActivatedScale<T> activate(T raw,
                                        const Floor<ScalarOf<T>>& floor) {
  return Activation<kParam>::activate(raw, floor);
}

// A zero gradient stays zero, whatever the scale holds.
template <ScaleParam kParam, typename T>
VTADL_INLINE T chain(T grad, const ActivatedScale<T>& scale) {
  return select(grad == 0, T{}, Activation<kParam>::chain(grad, scale));
}

// activate() and chain() where the parametrisation is known at run time only.
template <typename T>
VTADL_INLINE ActivatedScale<T> activate(ScaleParam param, T raw,
                                        const Floor<ScalarOf<T>>& floor) {
  return with_scale_param(param, [&](auto known) {
    return activate<decltype(known)::value>(raw, floor);
  });
}
template <typename T>
VTADL_INLINE T chain(ScaleParam param, T grad, const ActivatedScale<T>& scale) {
  return with_scale_param(param, [&](auto known) {
    return chain<decltype(known)::value>(grad, scale);
  });
}

}  // namespace gmm
}  // namespace vtadl
