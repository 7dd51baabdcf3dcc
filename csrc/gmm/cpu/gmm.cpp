// Mixture likelihood on the CPU. Compiled once per instruction set.
#include "gmm/cpu/few_features.h"
#include "gmm/cpu/few_samples.h"
#include "gmm/cpu/per_sample.h"
#include "gmm/cpu/plan.h"
#include "gmm/cpu/shared.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// Runs one pass, or both where neither is null.
template <typename Scalar, ScaleParam kParam>
void run(const GmmProblem& p, const GmmForward* forward,
         const GmmBackward* backward) {
  constexpr bool kTril = kParam == ScaleParam::kTril;
  const Plan plan = make_plan(p, backward);
  switch (plan.regime) {
    case Regime::kShared:
      return run_shared<Scalar, kTril>(p, forward, backward);
    case Regime::kFewFeatures:
      run_few_features<Scalar, kTril>(p, forward, backward, plan.grads);
      return sum_few_features<Scalar, kTril>(backward, plan.grads);
    case Regime::kFewSamples:
      if constexpr (!kTril) {
        run_few_samples<Scalar, kParam>(p, forward, backward);
      }
      return;
    case Regime::kPerSample:
      if constexpr (!kTril) {
        run_per_sample<Scalar, kParam>(p, forward, backward, plan);
        sum_per_sample<Scalar, kParam>(backward, plan.grads);
      }
      return;
  }
}

void run(const GmmProblem& p, const GmmForward* forward,
         const GmmBackward* backward) {
  dispatch(p.dtype, [&](auto zero) {
    using Scalar = decltype(zero);
    if (is_tril(p)) {
      return run<Scalar, ScaleParam::kTril>(p, forward, backward);
    }
    gmm::with_scale_param(p.scale_param, [&](auto param) {
      run<Scalar, decltype(param)::value>(p, forward, backward);
    });
  });
}

void forward(const GmmForward& p) { run(p, &p, nullptr); }

void prefer_large_pages_for_grads(const GmmBackward& p) {
  dispatch(p.dtype, [&](auto zero) {
    if (p.grad_mu) {
      prefer_large_pages(p.grad_mu, p.mu.numel() * sizeof(zero));
    }
    if (p.grad_scale) {
      prefer_large_pages(p.grad_scale, p.scale.numel() * sizeof(zero));
    }
  });
}

void backward(const GmmBackward& p) {
  prefer_large_pages_for_grads(p);
  run(p, nullptr, &p);
}

void forward_backward(const GmmForwardBackward& p) {
  prefer_large_pages_for_grads(p.backward);
  run(p.forward, &p.forward, &p.backward);
}

}  // namespace

extern const GmmCpuKernels gmm_cpu_kernels = {&forward, &backward,
                                              &forward_backward};

}  // namespace vtadl::VTADL_CPU_CAPABILITY
