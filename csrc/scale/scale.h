// The contract of scale_: multiplies a tensor in place by a number that lies in
// memory of the device. Without host synchronisation, and without touching the
// tensor where the number is 1: what gradients that were computed in the
// forward pass need in the backward pass.
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
