// Which kernels serve a problem on the CPU, and why.
#pragma once

#include <algorithm>

#include "common/integers.h"
#include "common/parallel.h"
#include "gmm/cpu/lanes.h"
#include "gmm/cpu/tuning.h"
#include "gmm/gmm.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

enum class Regime {
  // One mixture after another, in vectors of features: its few samples find the
  // activated parameters in the cache, and the gradients' sums stay in
  // registers.
  kFewSamples,
  // Blocks of samples of one mixture, in vectors of samples: the parameters are
  // activated once for all of them.
  kShared,
  // Blocks of samples of any mixtures, in vectors of samples: vectors of so few
  // features would be half empty. Cholesky factors, of at most 8 features, are
  // only served here and by kShared.
  kFewFeatures,
  // One sample and component after another, in vectors of features.
  kPerSample,
};

// How the wanted gradients of mu and scale come about in the last two regimes.
// The pass over the samples writes the gradients that no other sample or
// component adds to. For all others it writes the gradients with respect to
// log N_k, from which a second pass sums over what shares a parameter.
struct GradPlan {
  bool own_mu = false, own_scale = false;
  bool summed_mu = false, summed_scale = false;

  bool any_own() const { return own_mu || own_scale; }
  bool any_summed() const { return summed_mu || summed_scale; }
};

struct Plan {
  Regime regime;
  bool per_feature;  // see is_per_feature()
  GradPlan grads;
};

bool is_tril(const GmmProblem& p) { return p.scale_param == ScaleParam::kTril; }

// Each component of each sample has parameters of its own.
bool is_per_component(const GmmProblem& p, const GmmParameter& parameter) {
  return parameter.rows.repeats == 1 && parameter.components == p.components;
}

// Each feature of a component has a mean and a scale of its own.
bool is_per_feature(const GmmProblem& p) {
  return p.mu.size == p.features && p.scale.size == p.features;
}

bool has_few_samples(const GmmProblem& p, bool grads) {
  const RowMap& map = p.mu.rows;
  const int64_t too_many = grads ? kManySamplesWithGrads : kManySamples;
  return !is_tril(p) && p.features >= kManyFeatures && is_per_feature(p) &&
         p.mu.components == p.components &&
         p.scale.components == p.components && map == p.scale.rows &&
         map.repeats > 1 && map.repeats < too_many &&
         map.rows >= kLeastMixtures;
}

bool is_shared(const GmmProblem& p, bool grads) {
  const int64_t repeats = p.mu.rows.repeats;
  const bool many_features = p.features >= kManyFeatures;
  // The only other way to the gradients of few features is a second pass, which
  // costs more than half-empty vectors of samples.
  const int64_t many = grads && !many_features ? 2 : kManySamples;
  // The sums of a large mixture, a vector for each parameter, do not pay for
  // few samples.
  const bool too_large = grads && many_features &&
                         p.components * p.features > kLargeMixture &&
                         repeats < kManySamplesOfLargeMixture;
  return p.mu.rows == p.scale.rows && repeats >= many && !too_large;
}

Regime choose_regime(const GmmProblem& p, bool grads) {
  if (has_few_samples(p, grads)) return Regime::kFewSamples;
  if (is_shared(p, grads)) return Regime::kShared;
  const bool few_features = is_tril(p) || p.features < kManyFeatures;
  return few_features ? Regime::kFewFeatures : Regime::kPerSample;
}

// `backward` may be null.
Plan make_plan(const GmmProblem& p, const GmmBackward* backward) {
  Plan plan{choose_regime(p, backward != nullptr), is_per_feature(p), {}};
  const bool sums_itself =
      plan.regime == Regime::kFewSamples || plan.regime == Regime::kShared;
  if (backward == nullptr || sums_itself) return plan;
  GradPlan& grads = plan.grads;
  if (backward->grad_mu) {
    (is_per_component(p, p.mu) ? grads.own_mu : grads.summed_mu) = true;
  }
  if (backward->grad_scale) {
    (is_per_component(p, p.scale) ? grads.own_scale : grads.summed_scale) =
        true;
  }
  return plan;
}

// Whether the activated parameters of all components of a block of samples,
// rather than those of one component at a time, stay in the cache.
bool caches_all_components(const GmmProblem& p) {
  return p.components * p.scale.size <= kMaxCachedParameters &&
         p.components * p.mu.size <= kMaxCachedParameters;
}

// Items of so many elements each that are worth a thread.
int64_t grain_of(int64_t elements) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, elements));
}

// The samples of each row of parameters in `count` slabs of `samples` each,
// which threads share out. The sums of the slabs are added in a fixed order.
struct Slabs {
  int64_t rows, count, samples;

  Slabs(const GmmProblem& p, const RowMap& map) : rows(map.rows) {
    // A slab has enough work for a thread, and the partial sums have no more
    // than N·K elements.
    const int64_t elements =
        p.mu.components * p.mu.size + p.scale.components * p.scale.size;
    const int64_t least = std::max(divide_up(kGrain, p.components * p.features),
                                   divide_up(elements, p.components));
    // Whole blocks of vectors, of any type.
    constexpr int64_t kMultiple = kBlockSamples<float>;
    samples = std::max(least, divide_up(map.repeats, kMaxSlabs));
    samples = divide_up(samples, kMultiple) * kMultiple;
    count = std::max<int64_t>(1, divide_up(map.repeats, samples));
  }

  int64_t units() const { return rows * count; }
};

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
