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
  const Plan plan = make_plan(p, backward);
  switch (plan.regime) {
    case Regime::kFewSamples:
      return run_few_samples<Scalar, kParam>(p, forward, backward);
    case Regime::kShared:
      return run_shared<Scalar, false>(p, forward, backward);
    case Regime::kFewFeatures:
      run_few_features<Scalar, false>(p, forward, backward, plan.grads);
      return sum_few_features<Scalar, false>(backward, plan.grads);
    case Regime::kPerSample:
      run_per_sample<Scalar, kParam>(p, forward, backward, plan.grads);
      return sum_per_sample<Scalar, kParam>(backward, plan.grads);
  }
}

template <typename Scalar>
void run_tril(const GmmProblem& p, const GmmForward* forward,
              const GmmBackward* backward) {
  const Plan plan = make_plan(p, backward);
  if (plan.regime == Regime::kShared) {
    return run_shared<Scalar, true>(p, forward, backward);
  }
  run_few_features<Scalar, true>(p, forward, backward, plan.grads);
  sum_few_features<Scalar, true>(backward, plan.grads);
}

void run(const GmmProblem& p, const GmmForward* forward,
         const GmmBackward* backward) {
  gmm::dispatch(p, [&](auto zero, auto param) {
    using Scalar = decltype(zero);
    if constexpr (param == ScaleParam::kTril) {
      run_tril<Scalar>(p, forward, backward);
    } else {
      run<Scalar, decltype(param)::value>(p, forward, backward);
    }
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
