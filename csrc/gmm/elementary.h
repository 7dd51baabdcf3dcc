// Elementary functions for host and device. T is a float or a double, on the
// host also a vector.
#pragma once

#include <cmath>

#include "common/simd.h"

namespace vtadl::gmm {

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

}  // namespace vtadl::gmm
