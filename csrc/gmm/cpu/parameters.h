// The activated parameters of the mixtures that vectors of samples read, and
// where the gradients of these parameters go.
#pragma once

#include <algorithm>

#include "common/memory.h"
#include "gmm/cpu/component.h"
#include "gmm/cpu/plan.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The mixture of each sample: all its components, or one at a time.
template <typename Scalar>
class OwnParameters {
 public:
  using T = Accumulate<Scalar>;
  using Value = BlockValues<T>;

  explicit OwnParameters(const GmmProblem& p)
      : p_(p),
        floor_(p.min_std),
        tril_(is_tril(p)),
        scales_(tril_ ? p.features : p.scale.size),
        all_(caches_all_components(p)),
        mean_(cached_components(p.mu) * p.mu.size),
        raw_(cached_components(p.scale) * p.scale.size),
        inverse_std_(cached_components(p.scale) * scales_),
        slope_(cached_components(p.scale) * scales_),
        log_det_(cached_components(p.scale)) {}

  bool all() const { return all_; }

  void begin(const SampleBlock<T>& block) {
    mu_rows_ = Offsets<T>(block, p_.mu.rows, p_.mu.offset(1, 0));
    scale_rows_ = Offsets<T>(block, p_.scale.rows, p_.scale.offset(1, 0));
    if (!all_) return;
    read(0);
    prefetch_next(p_.mu, mu_rows_);
    prefetch_next(p_.scale, scale_rows_);
  }

  Component<Value> component(int64_t k) {
    if (!all_) read(k);
    const int64_t mu = all_ && p_.mu.components > 1 ? k : 0;
    const int64_t scale = all_ && p_.scale.components > 1 ? k : 0;
    return {mean_ + mu * p_.mu.size,
            inverse_std_ + scale * scales_,
            slope_ + scale * scales_,
            raw_ + scale * p_.scale.size,
            log_det_ + scale,
            p_.mu.size > 1,
            scales_ > 1};
  }

 private:
  int64_t cached_components(const GmmParameter& parameter) const {
    return all_ ? parameter.components : 1;
  }

  // Where samples have rows of their own, those of the next block follow. They
  // go to the second-level cache: the first is full of this block.
  static void prefetch_next(const GmmParameter& parameter,
                            const Offsets<T>& rows) {
    if (parameter.rows.repeats > 1) return;
    constexpr int64_t kLine = 64 / sizeof(Scalar);
    const int64_t row_size = parameter.offset(1, 0);
    const Scalar* next = static_cast<const Scalar*>(parameter.data) +
                         rows.of[kBlockSamples<T> - 1] + row_size;
    for (int64_t i = 0; i < kBlockSamples<T> * row_size; i += kLine) {
      __builtin_prefetch(next + i, 0, 2);
    }
  }

  // Reads and activates the components from k on.
  void read(int64_t k) {
    gather<T, Scalar>(p_.mu.data, mu_rows_, p_.mu.offset(0, k),
                      cached_components(p_.mu) * p_.mu.size, mean_);
    gather<T, Scalar>(p_.scale.data, scale_rows_, p_.scale.offset(0, k),
                      cached_components(p_.scale) * p_.scale.size, raw_);
    if (tril_) {
      activate(p_.features + 1,
               [](Vector<T> raw) { return gmm::activate_tril_diagonal(raw); });
    } else {
      gmm::with_scale_param(p_.scale_param, [&](auto param) {
        activate(1, [&](Vector<T> raw) {
          return gmm::activate<decltype(param)::value>(raw, floor_);
        });
      });
    }
  }

  // Activates the elements of scale that lie `step` apart.
  template <typename Activate>
  void activate(int64_t step, const Activate& activate_raw) {
    const T repeats = static_cast<T>(p_.features / scales_);
    for (int64_t k = 0; k < cached_components(p_.scale); ++k) {
      const BlockValues<T>* raw = raw_ + k * p_.scale.size;
      for (int v = 0; v < scale_rows_.vectors; ++v) {
        Vector<T> log_det{};
        for (int64_t i = 0; i < scales_; ++i) {
          const auto scale = activate_raw(raw[i * step].v[v]);
          inverse_std_[k * scales_ + i].v[v] = scale.inverse_std;
          slope_[k * scales_ + i].v[v] = scale.slope;
          log_det += scale.log_std;
        }
        log_det_[k].v[v] = log_det * repeats;
      }
    }
  }

  const GmmProblem& p_;
  const gmm::Floor<T> floor_;
  const bool tril_;
  const int64_t scales_;
  const bool all_;
  const Scratch<BlockValues<T>> mean_, raw_, inverse_std_, slope_, log_det_;
  Offsets<T> mu_rows_, scale_rows_;
};

// The gradients of the mixtures of each sample, written as OwnParameters reads
// the parameters.
template <typename Scalar>
class GradBlocks {
 public:
  using T = Accumulate<Scalar>;

  GradBlocks(const GmmBackward& p, const GradPlan& plan, bool all)
      : p_(p),
        cached_(all ? p.components : 1),
        mean_wanted_(plan.own_mu),
        scale_wanted_(plan.own_scale),
        mean_(mean_wanted_ ? cached_ * p.mu.size : 0),
        scale_(scale_wanted_ ? cached_ * p.scale.size : 0) {}

  ParameterGrads<BlockValues<T>> begin(int64_t k) {
    const int64_t slot = cached_ > 1 ? k : 0;
    ParameterGrads<BlockValues<T>> grads{nullptr, nullptr, p_.mu.size > 1,
                                         p_.scale.size > 1};
    if (mean_wanted_) grads.mean = cleared(mean_, slot, p_.mu.size);
    if (scale_wanted_) grads.scale = cleared(scale_, slot, p_.scale.size);
    return grads;
  }

  void end(int64_t k, const SampleBlock<T>& block) {
    if (cached_ == 1) {
      write(k, block);
    } else if (k + 1 == cached_) {
      write(0, block);
    }
  }

 private:
  static BlockValues<T>* cleared(BlockValues<T>* grads, int64_t slot,
                                 int64_t size) {
    std::fill_n(grads + slot * size, size, BlockValues<T>{});
    return grads + slot * size;
  }

  void write(int64_t k, const SampleBlock<T>& block) {
    if (mean_wanted_) {
      scatter<T, Scalar>(mean_, cached_ * p_.mu.size, block, p_.grad_mu,
                         p_.mu.offset(1, 0), p_.mu.offset(0, k));
    }
    if (scale_wanted_) {
      scatter<T, Scalar>(scale_, cached_ * p_.scale.size, block, p_.grad_scale,
                         p_.scale.offset(1, 0), p_.scale.offset(0, k));
    }
  }

  const GmmBackward& p_;
  const int64_t cached_;
  const bool mean_wanted_, scale_wanted_;
  const Scratch<BlockValues<T>> mean_, scale_;
};

// The mixture that all samples of a block share.
template <typename Scalar>
class SharedMixture {
 public:
  using T = Accumulate<Scalar>;
  using Value = T;

  explicit SharedMixture(const GmmProblem& p)
      : p_(p),
        floor_(p.min_std),
        tril_(is_tril(p)),
        scales_(tril_ ? p.features : p.scale.size),
        mean_(p.mu.components * p.mu.size),
        raw_(p.scale.components * p.scale.size + kLanes<T>),
        inverse_std_(p.scale.components * scales_ + kLanes<T>),
        slope_(p.scale.components * scales_ + kLanes<T>),
        log_det_(p.scale.components) {}

  void begin(int64_t row) {
    read(p_.mu, row, mean_);
    read(p_.scale, row, raw_);
    for (int64_t k = 0; k < p_.scale.components; ++k) {
      log_det_[k] = (tril_ ? invert_diagonal(k) : activate(k)) *
                    static_cast<T>(p_.features / scales_);
    }
  }

  Component<Value> component(int64_t k) const {
    const int64_t scale = p_.scale.components == 1 ? 0 : k;
    return {mean_ + p_.mu.offset(0, k),
            inverse_std_ + scale * scales_,
            slope_ + scale * scales_,
            raw_ + scale * p_.scale.size,
            log_det_ + scale,
            p_.mu.size > 1,
            scales_ > 1};
  }

  // The activated elements i, i + 1, … of scale, without their logarithms.
  template <typename Count>
  VTADL_HOST_INLINE gmm::ActivatedScale<Vector<T>> scale(int64_t i,
                                                         Count count) const {
    return {load<T>(inverse_std_ + i, count), Vector<T>{},
            load<T>(slope_ + i, count)};
  }

 private:
  static void read(const GmmParameter& from, int64_t row, T* to) {
    const Scalar* first =
        static_cast<const Scalar*>(from.data) + from.offset(row, 0);
    for (int64_t i = 0; i < from.components * from.size; ++i) {
      to[i] = static_cast<T>(first[i]);
    }
  }

  // activate() and invert_diagonal() return Σ log_std of component k.
  T activate(int64_t k) {
    const int64_t first = k * scales_;
    Vector<T> log_det{};
    gmm::with_scale_param(p_.scale_param, [&](auto param) {
      for_each_vector<T>(scales_, [&](int64_t i, int count) {
        const auto raw = load<T>(raw_ + first + i, count);
        const auto scale = gmm::activate<decltype(param)::value>(raw, floor_);
        store<T>(inverse_std_ + first + i, scale.inverse_std, count);
        store<T>(slope_ + first + i, scale.slope, count);
        log_det += keep<T>(scale.log_std, count);
      });
    });
    return sum<T>(log_det);
  }

  T invert_diagonal(int64_t k) {
    T log_det = 0;
    for (int64_t i = 0; i < scales_; ++i) {
      const auto scale = gmm::activate_tril_diagonal(
          raw_[k * p_.scale.size + i * (p_.features + 1)]);
      inverse_std_[k * scales_ + i] = scale.inverse_std;
      slope_[k * scales_ + i] = scale.slope;
      log_det += scale.log_std;
    }
    return log_det;
  }

  const GmmProblem& p_;
  const gmm::Floor<T> floor_;
  const bool tril_;
  const int64_t scales_;
  const Scratch<T> mean_, raw_, inverse_std_, slope_, log_det_;
};

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
