// The contract of scale_, which multiplies a tensor in place by a number that
// lies in memory of the device. It does not synchronise with the host, and does
// not touch the tensor if the number is 1. The backward pass multiplies
// gradients so that were computed in the forward pass.
#pragma once

#include <cstdint>

#include "common/dispatch.h"

namespace vtadl {

struct ScaleProblem {
  DType dtype;
  std::int64_t count;
  void* values;        // [count], in any order
  const void* factor;  // one number of type Accumulate
};

struct ScaleCpuKernels {
  void (*scale)(const ScaleProblem&);
};

void scale_cuda(const ScaleProblem&, void* stream);

}  // namespace vtadl
