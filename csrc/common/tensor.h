// What the operators need of PyTorch's tensors, through the stable ABI alone.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <vector>

#include "common/dispatch.h"

// The namespace of the operators in torch.ops.
#ifndef VTADL_LIBRARY
#define VTADL_LIBRARY vtadl_ext
#endif

namespace vtadl {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Shape = std::vector<std::int64_t>;

// The type of the kernels' sums, and of their results for a row or a window.
inline ScalarType accumulate_type(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::Double ? ScalarType::Double
                                                    : ScalarType::Float;
}

inline DType dtype_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::Double:
      return DType::kFloat64;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    case ScalarType::Half:
      return DType::kFloat16;
    default:
      STD_TORCH_CHECK(false, "vtadl_ext takes floating-point tensors only");
  }
}

inline void check_alike(const Tensor& tensor, const Tensor& x,
                        const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == x.scalar_type(), name,
                  " and x differ in dtype");
  STD_TORCH_CHECK(tensor.is_cuda() == x.is_cuda() &&
                      tensor.get_device_index() == x.get_device_index(),
                  name, " and x lie on different devices");
}

inline Tensor empty(const Tensor& like, const Shape& shape, ScalarType dtype) {
  return torch::stable::new_empty(like, shape, dtype);
}

// A tensor for a result. If it is not wanted, it has no elements, and the
// kernels get no pointer.
inline Tensor empty_if(bool wanted, const Tensor& like, const Shape& shape,
                       ScalarType dtype) {
  return empty(like, wanted ? shape : Shape{0}, dtype);
}

inline void* pointer_if(bool wanted, const Tensor& tensor) {
  return wanted ? tensor.mutable_data_ptr() : nullptr;
}

}  // namespace vtadl
