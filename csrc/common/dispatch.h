// The names of element types at run time, and the way from them to a template.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "common/host_device.h"

namespace vtadl {

enum class DType { kFloat32, kFloat64, kBFloat16, kFloat16 };

// The type in which sums over T are kept.
template <typename T>
struct AccumulateType {
  using type = float;
};
template <>
struct AccumulateType<double> {
  using type = double;
};
template <typename T>
using Accumulate = typename AccumulateType<T>::type;

// Calls body with a zero of the C++ type that dtype names.
template <typename Body>
VTADL_HOST_INLINE void dispatch(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat32:
      return body(float(0));
    case DType::kFloat64:
      return body(double(0));
    case DType::kBFloat16:
      return body(c10::BFloat16(0.0f));
    case DType::kFloat16:
      return body(c10::Half(0.0f));
  }
}

}  // namespace vtadl
