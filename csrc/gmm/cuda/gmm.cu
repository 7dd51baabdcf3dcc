// Mixture likelihood on the GPU: runs the kernels that plan.h chooses.
#include <stdexcept>

#include "gmm/cuda/few_features.h"
#include "gmm/cuda/mixing.h"
#include "gmm/cuda/one_pass.h"
#include "gmm/cuda/one_pass_cluster.h"
#include "gmm/cuda/parameter_sums.h"
#include "gmm/cuda/per_sample.h"
#include "gmm/cuda/plan.h"
#include "gmm/cuda/shared.h"
#include "gmm/cuda/shared_backward.h"
#include "gmm/cuda/tril.h"

namespace vtadl {
namespace {

using namespace gmm;

// Only plan_forward_backward() chooses the regimes of both passes at once, and
// forward_backward() serves them without the functions of a single pass.
[[noreturn]] void throw_not_single_pass() {
  throw std::logic_error("the plan of a single pass chose both passes at once");
}

template <typename Scalar>
void forward(const GmmForward& p, Regime regime, void* stream) {
  switch (regime) {
    case Regime::kNothing:
      return;
    case Regime::kFewFeatures:
      return few_features_forward<Scalar>(p, stream);
    case Regime::kTril:
      tril_forward<Scalar>(p, stream);
      break;
    case Regime::kShared:
      shared_forward<Scalar>(p, stream);
      break;
    case Regime::kPerSample:
      per_sample_forward<Scalar>(p, stream);
      break;
    case Regime::kOnePass:
    case Regime::kOnePassCluster:
      throw_not_single_pass();
  }
  if (mixes(p)) mixing_forward<Scalar>(p, stream);
}

// The gradients with respect to log N_k, and those that belong to one sample.
template <typename Scalar>
void backward(const GmmBackward& p, const Plan& plan, void* stream) {
  const OwnGrads<Scalar> own = plan.grads.template own<Scalar>();
  const bool writes = writes_own_grads(p, plan.grads);
  switch (plan.regime) {
    case Regime::kNothing:
      return;
    case Regime::kFewFeatures:
      return few_features_backward<Scalar>(p, plan.grads, stream);
    case Regime::kTril:
      if (mixes(p)) mixing_backward<Scalar>(p, stream);
      if (writes) tril_backward<Scalar>(p, own, stream);
      return;
    case Regime::kShared:
      if (mixes(p)) mixing_backward<Scalar>(p, stream);
      if (writes) shared_x_backward<Scalar>(p, stream);
      return;
    case Regime::kPerSample:
      if (mixes(p)) mixing_backward<Scalar>(p, stream);
      if (writes) per_sample_backward<Scalar>(p, own, stream);
      return;
    case Regime::kOnePass:
    case Regime::kOnePassCluster:
      throw_not_single_pass();
  }
}

template <typename Scalar>
void forward_backward(const GmmForwardBackward& p, const Plan& plan,
                      void* stream) {
  const OwnGrads<Scalar> own = plan.grads.template own<Scalar>();
  switch (plan.regime) {
    case Regime::kFewFeatures:
      return few_features_forward_backward<Scalar>(p, plan.grads, stream);
    case Regime::kOnePass:
      return one_pass<Scalar>(p, own, stream);
    case Regime::kOnePassCluster:
      return one_pass_cluster<Scalar>(p, own, plan.cluster, stream);
    case Regime::kNothing:
    case Regime::kTril:
    case Regime::kShared:
    case Regime::kPerSample:
      forward<Scalar>(p.forward, plan.forward, stream);
      return backward<Scalar>(p.backward, plan, stream);
  }
}

// The gradients that are sums.
template <typename Scalar>
void sum_grads(const GmmBackward& p, const GradPlan& plan, void* stream) {
  for (int i = 0; i < plan.launches; ++i) {
    const SummedGrads& grads = plan.summed[i];
    switch (grads.summation) {
      case Summation::kTril:
        tril_sums<Scalar>(p, grads, stream);
        break;
      case Summation::kSlabs:
        slab_sums<Scalar>(p, plan.slabs, grads, stream);
        break;
      case Summation::kFeatures:
        feature_sums<Scalar>(p, grads, stream);
        break;
      case Summation::kSamples:
        sample_sums<Scalar>(p, grads, stream);
        break;
    }
  }
}

}  // namespace

void gmm_forward_cuda(const GmmForward& p, void* stream) {
  vtadl::dispatch(p.dtype, [&](auto zero) {
    forward<decltype(zero)>(p, choose_regime(p), stream);
  });
}

void gmm_backward_cuda(const GmmBackward& p, void* stream) {
  vtadl::dispatch(p.dtype, [&](auto zero) {
    using Scalar = decltype(zero);
    const Plan plan = plan_backward<Scalar>(p);
    backward<Scalar>(p, plan, stream);
    sum_grads<Scalar>(p, plan.grads, stream);
  });
}

void gmm_forward_backward_cuda(const GmmForwardBackward& p, void* stream) {
  vtadl::dispatch(p.forward.dtype, [&](auto zero) {
    using Scalar = decltype(zero);
    const Plan plan = plan_forward_backward<Scalar>(p);
    forward_backward<Scalar>(p, plan, stream);
    sum_grads<Scalar>(p.backward, plan.grads, stream);
  });
}

}  // namespace vtadl
