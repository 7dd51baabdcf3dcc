// Many mixtures of many features, each of a few samples: one mixture after
// another, activated once, in vectors of features. Sums over its samples stay
// in registers.
#pragma once

#include "gmm/cpu/parameters.h"
#include "gmm/cpu/per_sample.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The pass over one mixture after another.
template <typename Scalar, ScaleParam kParam>
class FewSamplesPass {
 public:
  using T = Accumulate<Scalar>;

  explicit FewSamplesPass(const GmmProblem& p)
      : p_(p),
        rows_(p),
        parameters_(p),
        count_(p.mu.rows.repeats),
        x_(count_ * p.features),
        grad_x_(count_ * p.features),
        per_component_(count_ * p.components) {}

  void begin(int64_t mixture) {
    mixture_ = mixture;
    parameters_.begin(mixture);
    for (int64_t i = 0; i < count_; ++i) {
      sample_[i] = p_.mu.rows.sample(mixture, i);
      const Scalar* x = static_cast<const Scalar*>(p_.x) +
                        p_.x_rows.row(sample_[i]) * p_.features;
      std::copy_n(x, p_.features, x_ + i * p_.features);
      rows_.prefetch_logits(sample_[i]);
    }
  }

  void forward(const GmmForward& out) {
    for (int64_t k = 0; k < p_.components; ++k) {
      for (int64_t i = 0; i < count_; i += kInFlight) write_log_normals(k, i);
    }
    for (int64_t i = 0; i < count_; ++i) {
      T* row =
          static_cast<T*>(out.component_log_prob) + sample_[i] * p_.components;
      for (int64_t k = 0; k < p_.components; ++k) row[k] = at(k)[i];
      rows_.finish_forward(out, sample_[i]);
    }
  }

  void backward(const GmmBackward& out) {
    for (int64_t i = 0; i < count_; ++i) {
      const T* row = rows_.weigh(out, sample_[i]);
      for (int64_t k = 0; k < p_.components; ++k) at(k)[i] = row[k];
    }
    if (!out.grad_x && !out.grad_mu && !out.grad_scale) return;
    std::fill_n(grad_x_.get(), count_ * p_.features, T(0));
    for (int64_t k = 0; k < p_.components; ++k) write_grads(out, k);
    if (!out.grad_x) return;
    for (int64_t i = 0; i < count_; ++i) {
      std::copy_n(grad_x_ + i * p_.features, p_.features,
                  static_cast<T*>(out.grad_x) + sample_[i] * p_.features);
    }
  }

 private:
  static constexpr int kInFlight = 4;  // sums over features at a time

  // Of component k, a number for each sample.
  T* at(int64_t k) const { return per_component_ + k * count_; }

  // log p(x|k) of samples from `first` on.
  void write_log_normals(int64_t k, int64_t first) const {
    const auto of_k = parameters_.component(k);
    const T* x[kInFlight];
    for (int j = 0; j < kInFlight; ++j) {
      x[j] = x_ + std::min(first + j, count_ - 1) * p_.features;
    }
    Vector<T> distance[kInFlight] = {};
    for_each_vector<T>(p_.features, [&](int64_t d, auto count) {
      const auto mean = load<T>(of_k.mean + d, count);
      const auto inverse_std = load<T>(of_k.inverse_std + d, count);
      for (int j = 0; j < kInFlight; ++j) {
        const auto z = (load<T>(x[j] + d, count) - mean) * inverse_std;
        distance[j] += z * z;
      }
    });
    for (int j = 0; j < kInFlight && first + j < count_; ++j) {
      at(k)[first + j] =
          gmm::log_normal(p_.features, *of_k.log_det, sum<T>(distance[j]));
    }
  }

  // Those of component k, and its part of those of x.
  void write_grads(const GmmBackward& out, int64_t k) {
    const auto of_k = parameters_.component(k);
    const int64_t offset = p_.mu.offset(mixture_, k);
    const int64_t some = list_weighty(k);
    for_each_vector<T>(p_.features, [&](int64_t d, auto count) {
      const auto mean = load<T>(of_k.mean + d, count);
      const auto inverse_std = load<T>(of_k.inverse_std + d, count);
      Vector<T> mean_grad{}, scale_grad{};
      for (int64_t j = 0; j < some; ++j) {
        const auto [weight, first] = weighty_[j];
        const auto z = (load<T>(x_ + first + d, count) - mean) * inverse_std;
        const auto pull = weight * z;
        const auto of_mean = pull * inverse_std;
        T* grad_x = grad_x_ + first + d;
        store<T>(grad_x, load<T>(grad_x, count) - of_mean, count);
        mean_grad += of_mean;
        scale_grad += pull * z - weight;
      }
      if (out.grad_mu) {
        store<T>(static_cast<Scalar*>(out.grad_mu) + offset + d, mean_grad,
                 count);
      }
      if (out.grad_scale) {
        const auto scale = parameters_.scale(k * p_.features + d, count);
        const auto grad = gmm::chain<kParam>(scale_grad, scale);
        store<T>(static_cast<Scalar*>(out.grad_scale) + offset + d, grad,
                 count);
      }
    });
  }

  // The samples with a weight of component k; returns how many they are.
  // Without weight nothing counts, whatever the component holds.
  int64_t list_weighty(int64_t k) {
    int64_t some = 0;
    for (int64_t i = 0; i < count_; ++i) {
      if (at(k)[i] != 0) weighty_[some++] = {at(k)[i], i * p_.features};
    }
    return some;
  }

  struct Weighty {
    T weight;
    int64_t first;  // of its features
  };

  const GmmProblem& p_;
  const RowPass<Scalar, kParam, true> rows_;
  SharedParameters<Scalar> parameters_;
  const int64_t count_;  // of samples of a mixture
  int64_t mixture_ = 0;
  int64_t sample_[fewest_for_lanes(true)];
  Weighty weighty_[fewest_for_lanes(true)];
  // Copies: the rows of a mixture's samples lie so far apart that they would
  // meet in the same few sets of the cache.
  const Scratch<T> x_, grad_x_, per_component_;
};

// Either pass may be null.
template <typename Scalar, ScaleParam kParam>
void run_few_samples(const GmmProblem& p, const GmmForward* forward,
                     const GmmBackward* backward) {
  const RowMap& map = p.mu.rows;
  const int64_t cost = map.repeats * p.components * p.features;
  parallel_for(map.rows, std::max<int64_t>(1, kGrain / cost),
               [&](int64_t begin, int64_t end) {
                 FewSamplesPass<Scalar, kParam> pass(p);
                 for (int64_t mixture = begin; mixture < end; ++mixture) {
                   pass.begin(mixture);
                   if (forward) pass.forward(*forward);
                   if (backward) pass.backward(*backward);
                 }
               });
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
