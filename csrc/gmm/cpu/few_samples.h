// The passes over one mixture of a few samples after another, in vectors of
// features.
#pragma once

#include "gmm/cpu/parameters.h"
#include "gmm/cpu/per_sample.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The passes over one mixture after another, which is activated once.
template <typename Scalar, ScaleParam kParam>
class FewSamplesPass {
 public:
  using T = Accumulate<Scalar>;

  explicit FewSamplesPass(const GmmProblem& p)
      : p_(p),
        samples_(p),
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
      samples_.prefetch_logits(sample_[i]);
    }
  }

  void forward(const GmmForward& out) {
    for (int64_t k = 0; k < p_.components; ++k) {
      for (int64_t i = 0; i < count_; i += kSamplesInFlight) {
        write_log_normals(k, i);
      }
    }
    for (int64_t i = 0; i < count_; ++i) {
      T* row =
          static_cast<T*>(out.component_log_prob) + sample_[i] * p_.components;
      for (int64_t k = 0; k < p_.components; ++k) row[k] = at(k)[i];
      samples_.finish_forward(out, sample_[i]);
    }
  }

  void backward(const GmmBackward& out) {
    for (int64_t i = 0; i < count_; ++i) {
      const T* row = samples_.differentiate_mixture(out, sample_[i]);
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
  // A number of component k for each sample.
  T* at(int64_t k) const { return per_component_ + k * count_; }

  // Writes log N_k of the samples from `first` on.
  void write_log_normals(int64_t k, int64_t first) const {
    const auto of_k = parameters_.component(k);
    const T* x[kSamplesInFlight];
    for (int j = 0; j < kSamplesInFlight; ++j) {
      x[j] = x_ + std::min(first + j, count_ - 1) * p_.features;
    }
    Vector<T> distance[kSamplesInFlight] = {};
    for_each_vector<T>(p_.features, [&](int64_t d, auto count) {
      const auto mean = load<T>(of_k.mean + d, count);
      const auto inverse_std = load<T>(of_k.inverse_std + d, count);
      for (int j = 0; j < kSamplesInFlight; ++j) {
        const auto z =
            gmm::standardize(load<T>(x[j] + d, count), mean, inverse_std);
        distance[j] += z * z;
      }
    });
    for (int j = 0; j < kSamplesInFlight && first + j < count_; ++j) {
      at(k)[first + j] =
          gmm::log_normal(p_.features, *of_k.log_det, sum<T>(distance[j]));
    }
  }

  // Writes the gradients of component k, and adds its part to those of x.
  void write_grads(const GmmBackward& out, int64_t k) {
    const auto of_k = parameters_.component(k);
    const int64_t offset = p_.mu.offset(mixture_, k);
    const int64_t active = list_active(k);
    for_each_vector<T>(p_.features, [&](int64_t d, auto count) {
      const auto mean = load<T>(of_k.mean + d, count);
      const auto inverse_std = load<T>(of_k.inverse_std + d, count);
      Vector<T> mean_sum{}, log_std_sum{};
      for (int64_t j = 0; j < active; ++j) {
        const auto [grad, first] = active_[j];
        const auto z =
            gmm::standardize(load<T>(x_ + first + d, count), mean, inverse_std);
        const auto part = gmm::feature_grad(broadcast<Vector<T>>(grad), z);
        const auto grad_mean = part.mean(inverse_std);
        T* grad_x = grad_x_ + first + d;
        store<T>(grad_x, load<T>(grad_x, count) - grad_mean, count);
        mean_sum += grad_mean;
        log_std_sum += part.log_std;
      }
      if (out.grad_mu) {
        store<T>(static_cast<Scalar*>(out.grad_mu) + offset + d, mean_sum,
                 count);
      }
      if (out.grad_scale) {
        const auto scale = parameters_.scale(k * p_.features + d, count);
        store<T>(static_cast<Scalar*>(out.grad_scale) + offset + d,
                 gmm::chain<kParam>(log_std_sum, scale), count);
      }
    });
  }

  // Lists the samples that component k has gradients of, and returns how many
  // they are. Nothing is computed of the others: it may hold NaN.
  int64_t list_active(int64_t k) {
    int64_t active = 0;
    for (int64_t i = 0; i < count_; ++i) {
      if (at(k)[i] != 0) active_[active++] = {at(k)[i], i * p_.features};
    }
    return active;
  }

  struct ActiveSample {
    T grad_log_normal;
    int64_t first;  // of its features
  };

  const GmmProblem& p_;
  const SamplePass<Scalar, kParam, true> samples_;
  SharedMixture<Scalar> parameters_;
  const int64_t count_;  // samples of a mixture
  int64_t mixture_ = 0;
  int64_t sample_[kManySamplesWithGrads];
  ActiveSample active_[kManySamplesWithGrads];
  // Samples are copied: the rows of a mixture's samples lie so far apart that
  // they would meet in the same few sets of the cache.
  const Scratch<T> x_, grad_x_, per_component_;
};

// Either pass may be null.
template <typename Scalar, ScaleParam kParam>
void run_few_samples(const GmmProblem& p, const GmmForward* forward,
                     const GmmBackward* backward) {
  const RowMap& map = p.mu.rows;
  parallel_for(map.rows, grain_of(map.repeats * p.components * p.features),
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
