// The passes over one sample and component after another, in vectors of
// features.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/memory.h"
#include "common/parallel.h"
#include "common/simd_memory.h"
#include "gmm/cpu/plan.h"
#include "gmm/cpu/sums.h"
#include "gmm/math.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

// One sample and one component of its mixture, as vectors of features.
// kPerFeature: each feature has a mean and a scale of its own.
template <typename Scalar, ScaleParam kParam, bool kPerFeature>
class FeatureVectors {
 public:
  using T = Accumulate<Scalar>;

  VTADL_HOST_INLINE FeatureVectors(const GmmProblem& p, const Scalar* x,
                                   const Scalar* mu, const Scalar* scale)
      : x_(x),
        mu_(mu),
        scale_(scale),
        floor_(p.min_std),
        one_mean_(!kPerFeature && p.mu.size < p.features),
        one_scale_(!kPerFeature && p.scale.size < p.features) {
    if (one_mean_) mean_ = broadcast<Vector<T>>(static_cast<T>(mu[0]));
    if (one_scale_) {
      const auto raw = broadcast<Vector<T>>(static_cast<T>(scale[0]));
      activated_ = gmm::activate<kParam>(raw, floor_);
    }
  }

  VTADL_HOST_INLINE bool one_mean() const { return !kPerFeature && one_mean_; }
  VTADL_HOST_INLINE bool one_scale() const {
    return !kPerFeature && one_scale_;
  }

  template <typename Elements>
  VTADL_HOST_INLINE gmm::ActivatedScale<Vector<T>> scale(
      Elements elements) const {
    if (one_scale()) return activated_;
    return gmm::activate<kParam>(load<T>(scale_, elements), floor_);
  }

  // The standardised residuals; 0 behind the last feature.
  template <typename Elements>
  VTADL_HOST_INLINE Vector<T> standardized(
      Elements elements, const gmm::ActivatedScale<Vector<T>>& scale) const {
    const auto mean = one_mean() ? mean_ : load<T>(mu_, elements);
    return keep<T>(
        gmm::standardize(load<T>(x_, elements), mean, scale.inverse_std),
        elements);
  }

 private:
  const Scalar* const x_;
  const Scalar* const mu_;
  const Scalar* const scale_;
  const gmm::Floor<T> floor_;
  const bool one_mean_, one_scale_;
  Vector<T> mean_{};
  gmm::ActivatedScale<Vector<T>> activated_{};
};

template <typename Scalar, ScaleParam kParam, bool kPerFeature,
          typename T = Accumulate<Scalar>>
T log_normal(const FeatureVectors<Scalar, kParam, kPerFeature>& vectors,
             int64_t features) {
  Vector<T> distance{}, log_det{};
  for_each_in_any_order<T>(features, [&](auto elements) {
    const auto scale = vectors.scale(elements);
    const auto z = vectors.standardized(elements, scale);
    distance += z * z;
    log_det += keep<T>(scale.log_std, elements);
  });
  return gmm::log_normal(features, sum<T>(log_det), sum<T>(distance));
}

// Where the gradients of one sample and component go; null where they are not
// wanted. With kWrites those of mu and scale are written; else they are added
// up, and that of scale is the one with respect to log_std.
template <typename T, typename Element>
struct SampleGrads {
  T* x;            // [D], added to
  Element* mu;     // [mu.size]
  Element* scale;  // [scale.size]
};

template <bool kWrites, typename T, typename Element>
VTADL_HOST_INLINE void put(Element* to, Vector<T> values, int count) {
  if constexpr (!kWrites) values += load<T>(to, count);
  store<T>(to, values, count);
}

template <bool kWrites, typename T, typename Element>
VTADL_HOST_INLINE void put_sum(Element* to, Vector<T> values) {
  const T total = sum<T>(values);
  to[0] = static_cast<Element>(kWrites ? total : static_cast<T>(to[0]) + total);
}

template <bool kWrites, typename Scalar, ScaleParam kParam, bool kPerFeature,
          typename T, typename Element>
VTADL_HOST_INLINE void put_component_grads(
    const FeatureVectors<Scalar, kParam, kPerFeature>& vectors,
    int64_t features, T grad_log_normal, const SampleGrads<T, Element>& out) {
  const bool one_mean = vectors.one_mean(), one_scale = vectors.one_scale();
  const auto grad = broadcast<Vector<T>>(grad_log_normal);
  Vector<T> mean_sum{}, scale_sum{};
  for_each_vector<T>(features, [&](int64_t d, int count) {
    const auto scale = vectors.scale(Consecutive{d, count});
    const auto z = vectors.standardized(Consecutive{d, count}, scale);
    const auto part = gmm::feature_grad(grad, z);
    const auto grad_mean = keep<T>(part.mean(scale.inverse_std), count);
    if (out.x) {
      store<T>(out.x + d, load<T>(out.x + d, count) - grad_mean, count);
    }
    if (out.mu && !one_mean) put<kWrites, T>(out.mu + d, grad_mean, count);
    if (out.mu && one_mean) mean_sum += grad_mean;
    if (out.scale) {
      if (one_scale) {
        scale_sum += keep<T>(part.log_std, count);
      } else {
        put<kWrites, T>(
            out.scale + d,
            kWrites ? gmm::chain<kParam>(part.log_std, scale) : part.log_std,
            count);
      }
    }
  });
  if (out.mu && one_mean) put_sum<kWrites, T>(out.mu, mean_sum);
  if (out.scale && one_scale) {
    const auto total = broadcast<Vector<T>>(sum<T>(scale_sum));
    const auto scale = vectors.scale(Consecutive{0, 1});
    put<kWrites, T>(out.scale,
                    kWrites ? gmm::chain<kParam>(total, scale) : total, 1);
  }
}

// Nothing is computed of a component without gradients: it may hold NaN.
template <typename Scalar>
VTADL_HOST_INLINE void put_zeros(Scalar* to, int64_t size) {
  if (to) std::memset(static_cast<void*>(to), 0, size * sizeof(Scalar));
}

template <typename Scalar, typename T = Accumulate<Scalar>>
gmm::LogSumExp<T> log_sum_exp(const Scalar* values, int64_t count) {
  constexpr T kImpossible = -static_cast<T>(INFINITY);
  auto most = broadcast<Vector<T>>(kImpossible);
  for_each_vector<T>(count, [&](int64_t i, int some) {
    most = maximum(most, keep<T>(load<T>(values + i, some), some, kImpossible));
  });
  const T shift = gmm::log_sum_exp_shift(largest<T>(most));
  Vector<T> total{};
  for_each_vector<T>(count, [&](int64_t i, int some) {
    const auto addend = gmm::exponential(load<T>(values + i, some) - shift);
    total += keep<T>(addend, some);
  });
  return {shift, gmm::logarithm(sum<T>(total))};
}

template <typename T>
VTADL_HOST_INLINE gmm::LogSumExp<Vector<T>> in_all_lanes(
    const gmm::LogSumExp<T>& of) {
  return {broadcast<Vector<T>>(of.shift), broadcast<Vector<T>>(of.log_sum)};
}

// Returns log_prob of one sample; adds log π_k to its components under
// kLogSumExp.
template <typename Scalar, typename T = Accumulate<Scalar>>
T mix(const GmmProblem& p, const Scalar* logits, T* component) {
  const auto lse = log_sum_exp(logits, p.components);
  const auto logits_lse = in_all_lanes(lse);
  if (p.mixture == Mixture::kWeighted) {
    Vector<T> total{};
    for_each_vector<T>(p.components, [&](int64_t k, int count) {
      const auto pi = logits_lse.softmax(load<T>(logits + k, count));
      const auto log_normal = load<T>(component + k, count);
      total += keep<T>(gmm::weighted_log_prob(pi, log_normal), count);
    });
    return gmm::expected_log_normal(lse, sum<T>(total));
  }
  for_each_vector<T>(p.components, [&](int64_t k, int count) {
    const auto log_pi = logits_lse.log_softmax(load<T>(logits + k, count));
    const auto log_normal = load<T>(component + k, count);
    store<T>(component + k, gmm::joint_log_prob(log_pi, log_normal), count);
  });
  return log_sum_exp(component, p.components).total();
}

// The passes over one sample after another.
template <typename Scalar, ScaleParam kParam, bool kPerFeature>
class SamplePass {
 public:
  using T = Accumulate<Scalar>;

  explicit SamplePass(const GmmProblem& p) : p_(p) {}

  void forward(const GmmForward& out, int64_t n) const {
    T* component = static_cast<T*>(out.component_log_prob) + n * p_.components;
    const Rows rows(p_, n);
    for (int64_t k = 0; k < p_.components; ++k) {
      component[k] = log_normal<Scalar, kParam, kPerFeature>(vectors(rows, k),
                                                             p_.features);
    }
    finish_forward(out, n);
  }

  // Mixes components that have been written.
  void finish_forward(const GmmForward& out, int64_t n) const {
    if (p_.mixture == Mixture::kNone) return;
    T* component = static_cast<T*>(out.component_log_prob) + n * p_.components;
    static_cast<T*>(out.log_prob)[n] = mix(p_, logits(n), component);
  }

  void prefetch_logits(int64_t n) const {
    constexpr int64_t kLine = 64 / sizeof(Scalar);
    const Scalar* of_n = logits(n);
    for (int64_t k = 0; k < p_.components; k += kLine) {
      __builtin_prefetch(of_n + k);
    }
  }

  // Writes the gradients with respect to log N_k, which it returns, and those
  // of the logits.
  const T* differentiate_mixture(const GmmBackward& out, int64_t n) const {
    const int64_t first = n * p_.components;
    T* grad_log_normal = static_cast<T*>(out.grad_log_normal) + first;
    if (p_.mixture == Mixture::kNone) {
      std::copy_n(static_cast<const T*>(out.grad) + first, p_.components,
                  grad_log_normal);
      return grad_log_normal;
    }
    const T grad = out.grad ? static_cast<const T*>(out.grad)[n]
                            : static_cast<T>(out.constant_grad);
    const T log_prob = static_cast<const T*>(out.log_prob)[n];
    const T* component = static_cast<const T*>(out.component_log_prob) + first;
    T* grad_logits = at<T>(out.grad_logits, first);
    const Scalar* of_n = logits(n);
    const auto logits_lse = in_all_lanes(log_sum_exp(of_n, p_.components));
    for_each_vector<T>(p_.components, [&](int64_t k, int count) {
      const auto pi = logits_lse.softmax(load<T>(of_n + k, count));
      const auto part = gmm::component_grad(
          p_.mixture, broadcast<Vector<T>>(grad), pi,
          load<T>(component + k, count), broadcast<Vector<T>>(log_prob));
      store<T>(grad_log_normal + k, part.log_normal, count);
      if (grad_logits) store<T>(grad_logits + k, part.logit, count);
    });
    return grad_log_normal;
  }

  // Writes the gradients with respect to log N_k, those of the logits and of x,
  // and those of parameters that nothing else adds to.
  void backward(const GmmBackward& out, int64_t n, const GradPlan& plan) const {
    const Rows rows(p_, n);
    const T* grad_log_normal = differentiate_mixture(out, n);
    SampleGrads<T, Scalar> grads{at<T>(out.grad_x, n * p_.features), nullptr,
                                 nullptr};
    if (grads.x) std::fill_n(grads.x, p_.features, T(0));
    if (!grads.x && !plan.any_own()) return;
    for (int64_t k = 0; k < p_.components; ++k) {
      if (plan.own_mu) grads.mu = at<Scalar>(out.grad_mu, p_.mu.offset(n, k));
      if (plan.own_scale) {
        grads.scale = at<Scalar>(out.grad_scale, p_.scale.offset(n, k));
      }
      if (grad_log_normal[k] != 0) {
        put_component_grads<true>(vectors(rows, k), p_.features,
                                  grad_log_normal[k], grads);
      } else {
        put_zeros(grads.mu, p_.mu.size);
        put_zeros(grads.scale, p_.scale.size);
      }
    }
  }

  // Adds to sums over samples, null where they are not wanted, from the
  // gradients with respect to log N_k that backward() has written.
  void add_shared(const GmmBackward& in, int64_t n, T* mu, T* scale) const {
    const Rows rows(p_, n);
    const T* grad_log_normal =
        static_cast<const T*>(in.grad_log_normal) + n * p_.components;
    for (int64_t k = 0; k < p_.components; ++k) {
      if (grad_log_normal[k] == 0) continue;
      const SampleGrads<T, T> sums{
          nullptr, mu ? mu + p_.mu.offset(0, k) : nullptr,
          scale ? scale + p_.scale.offset(0, k) : nullptr};
      put_component_grads<false>(vectors(rows, k), p_.features,
                                 grad_log_normal[k], sums);
    }
  }

 private:
  // The rows that one sample reads.
  struct Rows {
    const Scalar* x;
    int64_t mu, scale;

    Rows(const GmmProblem& p, int64_t n)
        : x(static_cast<const Scalar*>(p.x) + p.x_rows.row(n) * p.features),
          mu(p.mu.rows.row(n)),
          scale(p.scale.rows.row(n)) {}
  };

  const Scalar* logits(int64_t n) const {
    return static_cast<const Scalar*>(p_.logits) +
           p_.logits_rows.row(n) * p_.components;
  }

  template <typename Element>
  static Element* at(void* base, int64_t offset) {
    return base ? static_cast<Element*>(base) + offset : nullptr;
  }

  FeatureVectors<Scalar, kParam, kPerFeature> vectors(const Rows& rows,
                                                      int64_t k) const {
    return {p_, rows.x,
            static_cast<const Scalar*>(p_.mu.data) + p_.mu.offset(rows.mu, k),
            static_cast<const Scalar*>(p_.scale.data) +
                p_.scale.offset(rows.scale, k)};
  }

  const GmmProblem& p_;
};

// Either pass may be null.
template <typename Scalar, ScaleParam kParam, bool kPerFeature>
void run_per_sample(const GmmProblem& p, const GmmForward* forward,
                    const GmmBackward* backward, const GradPlan& plan) {
  const SamplePass<Scalar, kParam, kPerFeature> pass(p);
  parallel_for(p.samples, grain_of(p.components * p.features),
               [&](int64_t begin, int64_t end) {
                 for (int64_t n = begin; n < end; ++n) {
                   if (forward) pass.forward(*forward, n);
                   if (backward) pass.backward(*backward, n, plan);
                 }
               });
}

template <typename Scalar, ScaleParam kParam>
void run_per_sample(const GmmProblem& p, const GmmForward* forward,
                    const GmmBackward* backward, const Plan& plan) {
  if (plan.per_feature) {
    run_per_sample<Scalar, kParam, true>(p, forward, backward, plan.grads);
  } else {
    run_per_sample<Scalar, kParam, false>(p, forward, backward, plan.grads);
  }
}

// The gradient of mu, or else of scale, from the gradients with respect to
// log N_k that run_per_sample() has written.
template <typename Scalar, ScaleParam kParam>
void sum_per_sample(const GmmBackward& p, bool of_mu) {
  using T = Accumulate<Scalar>;
  const GmmParameter& parameter = of_mu ? p.mu : p.scale;
  const Slabs slabs(p, parameter.rows);
  SlabGrad<Scalar> grad(p, of_mu, of_mu ? p.grad_mu : p.grad_scale, slabs);
  const SamplePass<Scalar, kParam, false> pass(p);
  parallel_for(slabs.units(), 1, [&](int64_t begin, int64_t end) {
    const Scratch<T> sums(grad.numel());
    T* const mu = of_mu ? sums.get() : nullptr;
    T* const scale = of_mu ? nullptr : sums.get();
    for (int64_t unit = begin; unit < end; ++unit) {
      std::fill_n(sums.get(), grad.numel(), T(0));
      for_each_sample(slabs, parameter.rows, unit,
                      [&](int64_t n) { pass.add_shared(p, n, mu, scale); });
      grad.write(unit, sums);
    }
  });
  grad.finish();
}

template <typename Scalar, ScaleParam kParam>
void sum_per_sample(const GmmBackward* p, const GradPlan& plan) {
  if (plan.summed_mu) sum_per_sample<Scalar, kParam>(*p, true);
  if (plan.summed_scale) sum_per_sample<Scalar, kParam>(*p, false);
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
