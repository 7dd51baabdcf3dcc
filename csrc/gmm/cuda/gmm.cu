// Mixture likelihood on the GPU: which kernels run.
#include "gmm/cuda/few_features.h"
#include "gmm/cuda/mixing.h"
#include "gmm/cuda/one_pass.h"
#include "gmm/cuda/one_pass_cluster.h"
#include "gmm/cuda/per_sample.h"
#include "gmm/cuda/shared.h"
#include "gmm/cuda/shared_parameters.h"
#include "gmm/cuda/tril.h"

namespace vtadl {
namespace {

using namespace gmm;

enum class Regime { kTril, kOneMixtureForMany, kFewFeatures, kAny };

template <typename Problem>
Regime regime_of(const Problem& p) {
  if (p.scale_param == ScaleParam::kTril) return Regime::kTril;
  if (is_one_mixture_for_many(p)) return Regime::kOneMixtureForMany;
  return has_few_features(p) ? Regime::kFewFeatures : Regime::kAny;
}

template <typename Scalar>
void forward(const GmmForward& p, void* stream) {
  if (p.samples == 0) return;
  switch (regime_of(p)) {
    case Regime::kTril:
      tril_components<Scalar>(p, stream);
      break;
    case Regime::kOneMixtureForMany:
      shared_components<Scalar>(p, stream);
      break;
    case Regime::kFewFeatures:
      return few_features_forward<Scalar>(p, stream);
    case Regime::kAny:
      diagonal_components<Scalar>(p, stream);
  }
  mix<Scalar>(p, stream);
}

// The weights of the components, and the gradients that have a row for each
// sample.
template <typename Scalar>
void backward_by_sample(const GmmBackward& p, void* stream) {
  if (p.samples == 0) return;
  const Regime regime = regime_of(p);
  if (regime == Regime::kFewFeatures) {
    return few_features_backward<Scalar>(p, stream);
  }
  weigh<Scalar>(p, stream);
  if (regime == Regime::kTril) {
    tril_sample_backward<Scalar>(p, stream);
  } else if (regime == Regime::kOneMixtureForMany) {
    shared_x_backward<Scalar>(p, stream);
  } else {
    sample_backward<Scalar>(p, stream);
  }
}

// The gradients of parameters that samples, components or features share. One
// launch for both, where both are shared alike.
template <typename Body>
void for_shared_parameters(const GmmBackward& p, void* grad_mu,
                           void* grad_scale, const Body& body) {
  if (grad_mu && grad_scale && p.mu.rows == p.scale.rows &&
      p.mu.components == p.scale.components) {
    return body(p.mu, grad_mu, grad_scale);
  }
  if (grad_mu) body(p.mu, grad_mu, nullptr);
  if (grad_scale) body(p.scale, nullptr, grad_scale);
}

template <typename Scalar>
void backward_of_shared(const GmmBackward& p, void* stream) {
  const auto unless = [](bool done, void* grad) {
    return done ? nullptr : grad;
  };
  void* const grad_mu = unless(is_private(p, p.mu), p.grad_mu);
  void* const grad_scale = unless(is_private(p, p.scale), p.grad_scale);
  if (p.scale_param == ScaleParam::kTril) {
    for_shared_parameters(
        p, grad_mu, grad_scale, [&](const auto& parameter, auto... grads) {
          tril_parameter_backward<Scalar>(p, parameter, grads..., stream);
        });
  } else if (const Slabs slabs = choose_slabs<Accumulate<Scalar>>(p);
             slabs.count > 0 && (grad_mu || grad_scale)) {
    shared_parameter_backward<Scalar>(p, slabs, stream);
  } else {
    const bool done = regime_of(p) == Regime::kFewFeatures;
    for_shared_parameters(
        p, unless(done && is_per_component(p, p.mu), grad_mu),
        unless(done && is_per_component(p, p.scale), grad_scale),
        [&](const auto& parameter, auto... grads) {
          if (is_per_component(p, parameter)) {
            feature_sums<Scalar>(p, grads..., stream);
          } else {
            parameter_backward<Scalar>(p, parameter, grads..., stream);
          }
        });
  }
}

template <typename Scalar>
void forward_backward_by_sample(const GmmForwardBackward& p, void* stream) {
  if (p.forward.samples == 0) return;
  if (regime_of(p.backward) == Regime::kFewFeatures) {
    return few_features_forward_backward<Scalar>(p, stream);
  }
  if (regime_of(p.backward) == Regime::kAny) {
    if (fits_both_passes<Scalar>(p.forward)) {
      return both_passes<Scalar>(p, stream);
    }
    const ResidentPlan plan = resident_plan<Scalar>(p);
    if (plan.ranks > 0) return resident_passes<Scalar>(p, plan, stream);
  }
  forward<Scalar>(p.forward, stream);
  backward_by_sample<Scalar>(p.backward, stream);
}

}  // namespace

void gmm_forward_cuda(const GmmForward& p, void* stream) {
  vtadl::dispatch(p.dtype,
                  [&](auto zero) { forward<decltype(zero)>(p, stream); });
}

void gmm_backward_cuda(const GmmBackward& p, void* stream) {
  vtadl::dispatch(p.dtype, [&](auto zero) {
    backward_by_sample<decltype(zero)>(p, stream);
    backward_of_shared<decltype(zero)>(p, stream);
  });
}

void gmm_forward_backward_cuda(const GmmForwardBackward& p, void* stream) {
  vtadl::dispatch(p.forward.dtype, [&](auto zero) {
    forward_backward_by_sample<decltype(zero)>(p, stream);
    backward_of_shared<decltype(zero)>(p.backward, stream);
  });
}

}  // namespace vtadl
