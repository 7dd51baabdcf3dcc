// Which of the passes suits a problem, and what it writes.
#pragma once

#include "gmm/gmm.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

// From here on vectors of features beat vectors of samples.
constexpr int64_t kManyFeatures = 16;
// Samples that share a mixture before it is worth reading it once for all.
constexpr int64_t kManySamples = 16;

// A larger mixture needs vectors of sums too large for a few samples.
constexpr int64_t kLargeMixture = 1 << 15;  // parameters

bool is_shared(const GmmProblem& p) {
  const int64_t repeats = p.mu.rows.repeats;
  const bool too_few = p.features >= kManyFeatures &&
                       p.components * p.features > kLargeMixture &&
                       repeats < 16 * p.features;
  return p.mu.rows == p.scale.rows && repeats >= kManySamples && !too_few;
}

// Fewer do not keep all threads busy.
constexpr int64_t kLeastMixtures = 16;

// For more samples vectors of them are faster, whose lanes gradients have to
// add up.
constexpr int64_t fewest_for_lanes(bool grads) {
  return grads ? 2 * kManySamples : kManySamples;
}

bool is_of_few_samples(const GmmProblem& p, bool grads) {
  const auto is_whole = [&](const GmmParameter& parameter) {
    return parameter.components == p.components && parameter.size == p.features;
  };
  const RowMap& map = p.mu.rows;
  return p.features >= kManyFeatures && is_whole(p.mu) && is_whole(p.scale) &&
         map == p.scale.rows && map.repeats > 1 &&
         map.repeats < fewest_for_lanes(grads) && map.rows >= kLeastMixtures;
}

// How the wanted gradients of mu and scale come about: the pass over the
// samples writes its own for each sample and component, or weights, from which
// another pass sums over what shares a parameter.
struct GradPlan {
  bool own_mu = false, own_scale = false;
  bool summed_mu = false, summed_scale = false;

  bool any_own() const { return own_mu || own_scale; }
  bool any_summed() const { return summed_mu || summed_scale; }
};

GradPlan plan_grads(const GmmProblem& p, const GmmBackward* backward) {
  const auto is_own = [&](const GmmParameter& parameter) {
    return parameter.rows.repeats == 1 && parameter.components == p.components;
  };
  GradPlan plan;
  if (backward == nullptr) return plan;
  if (backward->grad_mu) (is_own(p.mu) ? plan.own_mu : plan.summed_mu) = true;
  if (backward->grad_scale) {
    (is_own(p.scale) ? plan.own_scale : plan.summed_scale) = true;
  }
  return plan;
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
