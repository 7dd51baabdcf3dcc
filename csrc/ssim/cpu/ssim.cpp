// The entry points of SSIM on the CPU; plan.h decides what serves a problem.
// This source is compiled once per instruction set.
#include "common/dispatch.h"
#include "common/parallel.h"
#include "ssim/cpu/pass.h"
#include "ssim/cpu/plan.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

int64_t parts(const SsimProblem& p) { return tiling_of(p).parts(); }

// Either of forward and backward may be null.
void run(const SsimProblem& p, const SsimForward* forward,
         const SsimBackward* backward) {
  const Plan plan(p, backward != nullptr);
  dispatch_kernels(p, [&](auto zero, auto taps, auto masked) {
    using Pass =
        Pass<decltype(zero), decltype(taps)::value, decltype(masked)::value>;
    parallel_for(plan.count(), plan.grain, [&](int64_t begin, int64_t end) {
      Pass pass(p, forward, backward);
      for (int64_t i = begin; i < end; ++i) pass.run(plan.band(i));
    });
  });
}

void forward(const SsimForward& p) { run(p, &p, nullptr); }

void backward(const SsimBackward& p) { run(p, nullptr, &p); }

void forward_backward(const SsimForwardBackward& p) {
  run(p.forward, &p.forward, &p.backward);
}

// Adds up the sums of all parts, in a fixed order.
void total(const SsimTotal& p) {
  dispatch(p.dtype, [&](auto zero) {
    using T = Accumulate<decltype(zero)>;
    const T* of_parts = static_cast<const T*>(p.of_parts);
    double total = 0;
    for (int s = 0; s < SsimSums::kCount; ++s) {
      double sum = 0;
      for (int64_t part = 0; part < p.parts; ++part) {
        sum += of_parts[part * SsimSums::kCount + s];
      }
      static_cast<T*>(p.sums)[s] = static_cast<T>(sum);
      if (p.weights[s] != 0) total += p.weights[s] * sum;
    }
    *static_cast<T*>(p.total) = static_cast<T>(total);
  });
}

}  // namespace

extern const SsimCpuKernels ssim_cpu_kernels = {&parts, &forward, &backward,
                                                &forward_backward, &total};

}  // namespace vtadl::VTADL_CPU_CAPABILITY
