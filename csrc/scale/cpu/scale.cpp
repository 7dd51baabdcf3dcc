// scale_ on the CPU. This source is compiled once per instruction set.
#include "scale/scale.h"

#include "common/parallel.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

template <typename Scalar>
void scale(const ScaleProblem& p) {
  using T = Accumulate<Scalar>;
  const T factor = *static_cast<const T*>(p.factor);
  if (factor == 1) return;
  Scalar* values = static_cast<Scalar*>(p.values);
  parallel_for(p.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      values[i] = static_cast<Scalar>(static_cast<T>(values[i]) * factor);
    }
  });
}

void scale(const ScaleProblem& p) {
  dispatch(p.dtype, [&](auto zero) { scale<decltype(zero)>(p); });
}

}  // namespace

extern const ScaleCpuKernels scale_cpu_kernels = {&scale};

}  // namespace vtadl::VTADL_CPU_CAPABILITY
