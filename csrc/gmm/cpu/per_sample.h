// Many features: one sample and component after another, vectors of features.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/memory.h"
#include "common/parallel.h"
#include "common/simd_memory.h"
#include "gmm/cpu/plan.h"
#include "gmm/math.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

// Vectors of what one sample and one component of its mixture hold. kOwn: each
// feature has a mean and a scale of its own.
template <typename Scalar, ScaleParam kParam, bool kOwn>
class FeatureVectors {
 public:
  using T = Accumulate<Scalar>;

  VTADL_HOST_INLINE FeatureVectors(const GmmProblem& p, const Scalar* x,
                                   const Scalar* mu, const Scalar* scale)
      : x_(x),
        mu_(mu),
        scale_(scale),
        floor_(p.min_std),
        one_mean_(!kOwn && p.mu.size < p.features),
        one_scale_(!kOwn && p.scale.size < p.features) {
    if (one_mean_) mean_ = broadcast<Vector<T>>(static_cast<T>(mu[0]));
    if (one_scale_) {
      const auto raw = broadcast<Vector<T>>(static_cast<T>(scale[0]));
      activated_ = gmm::activate<kParam>(raw, floor_);
    }
  }

  VTADL_HOST_INLINE bool one_mean() const { return !kOwn && one_mean_; }
  VTADL_HOST_INLINE bool one_scale() const { return !kOwn && one_scale_; }

  template <typename Elements>
  VTADL_HOST_INLINE gmm::ActivatedScale<Vector<T>> scale(
      Elements elements) const {
    if (one_scale()) return activated_;
    return gmm::activate<kParam>(load<T>(scale_, elements), floor_);
  }

  template <typename Elements>
  VTADL_HOST_INLINE Vector<T> difference(Elements elements) const {
    return load<T>(x_, elements) -
           (one_mean() ? mean_ : load<T>(mu_, elements));
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

template <typename Scalar, ScaleParam kParam, bool kOwn,
          typename T = Accumulate<Scalar>>
T log_normal(const FeatureVectors<Scalar, kParam, kOwn>& vectors,
             int64_t features) {
  Vector<T> distance{}, log_det{};
  for_each_in_any_order<T>(features, [&](auto elements) {
    const auto scale = vectors.scale(elements);
    const auto z =
        keep<T>(vectors.difference(elements) * scale.inverse_std, elements);
    distance += z * z;
    log_det += keep<T>(scale.log_std, elements);
  });
  return gmm::log_normal(features, sum<T>(log_det), sum<T>(distance));
}

// Where the gradients of one sample and component go; null where they are not
// wanted. With kWrites those of mu and scale are written; else they are added
// up, and that of scale is the one with respect to log_std.
template <typename T, typename Element>
struct RowGrads {
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

template <bool kWrites, typename Scalar, ScaleParam kParam, bool kOwn,
          typename T, typename Element>
void component_grads(const FeatureVectors<Scalar, kParam, kOwn>& vectors,
                     int64_t features, T weight,
                     const RowGrads<T, Element>& out) {
  const bool one_mean = vectors.one_mean(), one_scale = vectors.one_scale();
  Vector<T> mean_sum{}, scale_sum{};
  for_each_vector<T>(features, [&](int64_t d, int count) {
    const auto scale = vectors.scale(Run{d, count});
    const auto z =
        keep<T>(vectors.difference(Run{d, count}) * scale.inverse_std, count);
    const auto pull = keep<T>(weight * z * scale.inverse_std, count);
    if (out.x) {
      store<T>(out.x + d, load<T>(out.x + d, count) - pull, count);
    }
    if (out.mu && !one_mean) put<kWrites, T>(out.mu + d, pull, count);
    if (out.mu && one_mean) mean_sum += pull;
    if (out.scale) {
      const auto grad = weight * (z * z - T(1));
      if (one_scale) {
        scale_sum += keep<T>(grad, count);
      } else {
        put<kWrites, T>(out.scale + d,
                        kWrites ? gmm::chain<kParam>(grad, scale) : grad,
                        count);
      }
    }
  });
  if (out.mu && one_mean) put_sum<kWrites, T>(out.mu, mean_sum);
  if (out.scale && one_scale) {
    const auto total = broadcast<Vector<T>>(sum<T>(scale_sum));
    const auto scale = vectors.scale(Run{0, 1});
    put<kWrites, T>(out.scale,
                    kWrites ? gmm::chain<kParam>(total, scale) : total, 1);
  }
}

// Whatever the component holds: NaN, say, where it is masked.
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
    const auto share = gmm::exponential(load<T>(values + i, some) - shift);
    total += keep<T>(share, some);
  });
  return {shift, std::log(sum<T>(total))};
}

template <typename T>
VTADL_HOST_INLINE gmm::LogSumExp<Vector<T>> in_all_lanes(
    const gmm::LogSumExp<T>& of) {
  return {broadcast<Vector<T>>(of.shift), broadcast<Vector<T>>(of.log_sum)};
}

// log_prob of one sample; adds log π_k to its components under kLogSumExp.
template <typename Scalar, typename T = Accumulate<Scalar>>
T mix(const GmmProblem& p, const Scalar* logits, T* component) {
  const auto weights = in_all_lanes(log_sum_exp(logits, p.components));
  if (p.mixture == Mixture::kWeighted) {
    if (weights.log_sum[0] == -INFINITY) return -INFINITY;  // all masked
    Vector<T> total{};
    for_each_vector<T>(p.components, [&](int64_t k, int count) {
      const auto pi = weights.softmax(load<T>(logits + k, count));
      const auto part = pi * load<T>(component + k, count);
      total += keep<T>(select(pi == 0, Vector<T>{}, part), count);
    });
    return sum<T>(total);
  }
  for_each_vector<T>(p.components, [&](int64_t k, int count) {
    const auto log_pi = weights.log_softmax(load<T>(logits + k, count));
    const auto both = log_pi + load<T>(component + k, count);
    store<T>(component + k, select(log_pi == -INFINITY, log_pi, both), count);
  });
  return log_sum_exp(component, p.components).total();
}

// The pass over one sample after another.
template <typename Scalar, ScaleParam kParam, bool kOwn>
class RowPass {
 public:
  using T = Accumulate<Scalar>;

  explicit RowPass(const GmmProblem& p) : p_(p) {}

  void forward(const GmmForward& out, int64_t n) const {
    T* component = static_cast<T*>(out.component_log_prob) + n * p_.components;
    const Sample sample(p_, n);
    for (int64_t k = 0; k < p_.components; ++k) {
      component[k] =
          log_normal<Scalar, kParam, kOwn>(vectors(sample, k), p_.features);
    }
    finish_forward(out, n);
  }

  // From the components that have been written.
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

  // Writes the weights, and the gradients of the logits.
  const T* weigh(const GmmBackward& out, int64_t n) const {
    const int64_t first = n * p_.components;
    T* weight = static_cast<T*>(out.grad_log_normal) + first;
    if (p_.mixture == Mixture::kNone) {
      std::copy_n(static_cast<const T*>(out.grad) + first, p_.components,
                  weight);
      return weight;
    }
    const T grad = out.grad ? static_cast<const T*>(out.grad)[n]
                            : static_cast<T>(out.constant_grad);
    const T log_prob = static_cast<const T*>(out.log_prob)[n];
    const T* component = static_cast<const T*>(out.component_log_prob) + first;
    T* grad_logits = at<T>(out.grad_logits, first);
    const Scalar* of_n = logits(n);
    const auto weights = in_all_lanes(log_sum_exp(of_n, p_.components));
    for_each_vector<T>(p_.components, [&](int64_t k, int count) {
      const auto pi = weights.softmax(load<T>(of_n + k, count));
      const auto part = gmm::component_grad(
          p_.mixture, broadcast<Vector<T>>(grad), pi,
          load<T>(component + k, count), broadcast<Vector<T>>(log_prob));
      store<T>(weight + k, part.log_normal, count);
      if (grad_logits) store<T>(grad_logits + k, part.logit, count);
    });
    return weight;
  }

  // Writes the weights, the gradients of the logits and of x, and those of
  // parameters that nothing shares.
  void backward(const GmmBackward& out, int64_t n, const GradPlan& plan) const {
    const Sample sample(p_, n);
    const T* weight = weigh(out, n);
    RowGrads<T, Scalar> grads{at<T>(out.grad_x, n * p_.features), nullptr,
                              nullptr};
    if (grads.x) std::fill_n(grads.x, p_.features, T(0));
    if (!grads.x && !plan.any_own()) return;
    for (int64_t k = 0; k < p_.components; ++k) {
      if (plan.own_mu) grads.mu = at<Scalar>(out.grad_mu, p_.mu.offset(n, k));
      if (plan.own_scale) {
        grads.scale = at<Scalar>(out.grad_scale, p_.scale.offset(n, k));
      }
      if (weight[k] != 0) {
        component_grads<true>(vectors(sample, k), p_.features, weight[k],
                              grads);
      } else {
        put_zeros(grads.mu, p_.mu.size);
        put_zeros(grads.scale, p_.scale.size);
      }
    }
  }

  // Adds to the sums over samples, from weights that have been written; null
  // where they are not wanted.
  void add_shared(const GmmBackward& in, int64_t n, T* mu, T* scale) const {
    const Sample sample(p_, n);
    const T* weight =
        static_cast<const T*>(in.grad_log_normal) + n * p_.components;
    for (int64_t k = 0; k < p_.components; ++k) {
      if (weight[k] == 0) continue;
      const RowGrads<T, T> sums{
          nullptr, mu ? mu + p_.mu.offset(0, k) : nullptr,
          scale ? scale + p_.scale.offset(0, k) : nullptr};
      component_grads<false>(vectors(sample, k), p_.features, weight[k], sums);
    }
  }

 private:
  // Where the rows of one sample begin.
  struct Sample {
    const Scalar* x;
    int64_t mu_row, scale_row;

    Sample(const GmmProblem& p, int64_t n)
        : x(static_cast<const Scalar*>(p.x) + p.x_rows.row(n) * p.features),
          mu_row(p.mu.rows.row(n)),
          scale_row(p.scale.rows.row(n)) {}
  };

  const Scalar* logits(int64_t n) const {
    return static_cast<const Scalar*>(p_.logits) +
           p_.logits_rows.row(n) * p_.components;
  }

  template <typename Element>
  static Element* at(void* base, int64_t offset) {
    return base ? static_cast<Element*>(base) + offset : nullptr;
  }

  FeatureVectors<Scalar, kParam, kOwn> vectors(const Sample& sample,
                                               int64_t k) const {
    return {
        p_, sample.x,
        static_cast<const Scalar*>(p_.mu.data) + p_.mu.offset(sample.mu_row, k),
        static_cast<const Scalar*>(p_.scale.data) +
            p_.scale.offset(sample.scale_row, k)};
  }

  const GmmProblem& p_;
};

// Either pass may be null.
template <typename Scalar, ScaleParam kParam, bool kOwn>
void run_rows(const GmmProblem& p, const GmmForward* forward,
              const GmmBackward* backward, const GradPlan& plan) {
  const RowPass<Scalar, kParam, kOwn> pass(p);
  const int64_t cost = p.components * p.features;
  parallel_for(p.samples, std::max<int64_t>(1, kGrain / cost),
               [&](int64_t begin, int64_t end) {
                 for (int64_t n = begin; n < end; ++n) {
                   if (forward) pass.forward(*forward, n);
                   if (backward) pass.backward(*backward, n, plan);
                 }
               });
}

template <typename Scalar, ScaleParam kParam>
void run_rows(const GmmProblem& p, const GmmForward* forward,
              const GmmBackward* backward, const GradPlan& plan) {
  if (p.mu.size == p.features && p.scale.size == p.features) {
    run_rows<Scalar, kParam, true>(p, forward, backward, plan);
  } else {
    run_rows<Scalar, kParam, false>(p, forward, backward, plan);
  }
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
