// Mixture likelihood on the CPU. Compiled once per instruction set.
#include "gmm/cpu/few_features.h"
#include "gmm/cpu/few_samples.h"
#include "gmm/cpu/per_sample.h"
#include "gmm/cpu/plan.h"
#include "gmm/cpu/shared.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

template <typename Scalar, ScaleParam kParam>
void run_parameter(const GmmBackward& p, bool of_mu) {
  if constexpr (kParam == ScaleParam::kTril) {
    run_parameter_in_lanes<Scalar, true>(p, of_mu);
  } else if (p.features < kManyFeatures) {
    run_parameter_in_lanes<Scalar, false>(p, of_mu);
  } else {
    run_parameter_in_rows<Scalar, kParam>(p, of_mu);
  }
}

// Either pass may be null.
template <typename Scalar, ScaleParam kParam>
void run(const GmmProblem& p, const GmmForward* forward,
         const GmmBackward* backward) {
  constexpr bool kTril = kParam == ScaleParam::kTril;
  if constexpr (!kTril) {
    if (is_of_few_samples(p, backward != nullptr)) {
      return run_few_samples<Scalar, kParam>(p, forward, backward);
    }
  }
  if (is_shared(p)) return run_shared<Scalar, kTril>(p, forward, backward);
  const GradPlan plan = plan_grads(p, backward);
  if constexpr (kTril) {
    run_lanes<Scalar, true>(p, forward, backward, plan);
  } else if (p.features < kManyFeatures) {
    run_lanes<Scalar, false>(p, forward, backward, plan);
  } else {
    run_rows<Scalar, kParam>(p, forward, backward, plan);
  }
  if (plan.summed_mu) run_parameter<Scalar, kParam>(*backward, true);
  if (plan.summed_scale) run_parameter<Scalar, kParam>(*backward, false);
}

void run(const GmmProblem& p, const GmmForward* forward,
         const GmmBackward* backward) {
  gmm::dispatch(p, [&](auto zero, auto param) {
    run<decltype(zero), decltype(param)::value>(p, forward, backward);
  });
}

void forward(const GmmForward& p) { run(p, &p, nullptr); }

void advise(const GmmBackward& p) {
  const std::size_t bytes = p.dtype == DType::kFloat64   ? 8
                            : p.dtype == DType::kFloat32 ? 4
                                                         : 2;
  if (p.grad_mu) prefer_large_pages(p.grad_mu, p.mu.numel() * bytes);
  if (p.grad_scale) prefer_large_pages(p.grad_scale, p.scale.numel() * bytes);
}

void backward(const GmmBackward& p) {
  advise(p);
  run(p, nullptr, &p);
}

void forward_backward(const GmmForwardBackward& p) {
  advise(p.backward);
  run(p.forward, &p.forward, &p.backward);
}

}  // namespace

extern const GmmCpuKernels gmm_cpu_kernels = {&forward, &backward,
                                              &forward_backward};

}  // namespace vtadl::VTADL_CPU_CAPABILITY
