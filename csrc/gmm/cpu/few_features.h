// The passes over vectors of samples: for few features, and for many samples of
// one mixture.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/integers.h"
#include "common/memory.h"
#include "common/parallel.h"
#include "gmm/cpu/parameters.h"
#include "gmm/cpu/sums.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

template <typename T>
gmm::LogSumExp<Vector<T>> log_sum_exp(const BlockValues<T>* values,
                                      int64_t count, int v) {
  auto largest = broadcast<Vector<T>>(-static_cast<T>(INFINITY));
  for (int64_t k = 0; k < count; ++k) {
    largest = maximum(largest, values[k].v[v]);
  }
  const auto shift = gmm::log_sum_exp_shift(largest);
  Vector<T> sum{};
  for (int64_t k = 0; k < count; ++k) {
    sum += gmm::exponential(values[k].v[v] - shift);
  }
  return {shift, gmm::logarithm(sum)};
}

template <typename T>
VTADL_HOST_INLINE bool any_not_zero(const BlockValues<T>& values, int vectors) {
  // Bits are not compared as numbers: NaN counts, and -0 does no harm.
  IntOf<Vector<T>> bits{};
  for (int v = 0; v < vectors; ++v) bits |= bits_of(values.v[v]);
  for (int i = 0; i < kLanes<T>; ++i) {
    if (bits[i] != 0) return true;
  }
  return false;
}

// What is kept of one block of samples.
template <typename T>
struct BlockScratch {
  const Scratch<BlockValues<T>> x, grad_x;
  // `log_pi` is later overwritten with the logits' gradients.
  const Scratch<BlockValues<T>> log_pi, component, grad_log_normal;

  explicit BlockScratch(const GmmProblem& p)
      : x(p.features),
        grad_x(p.features),
        log_pi(p.components),
        component(p.components),
        grad_log_normal(p.components) {}
};

// The passes over one block of samples after another.
template <typename Scalar, bool kTril>
class BlockPass {
 public:
  using T = Accumulate<Scalar>;

  explicit BlockPass(const GmmProblem& p) : p_(p), scratch_(p) {}

  void begin(const SampleBlock<T>& block) {
    vectors_ = block.vectors();
    gather<T, Scalar>(p_.x, Offsets<T>(block, p_.x_rows, p_.features), 0,
                      p_.features, scratch_.x);
  }

  template <typename Parameters>
  void forward(const GmmForward& out, const SampleBlock<T>& block,
               Parameters& parameters) {
    with_constant(vectors_, [&](auto vectors) {
      for (int64_t k = 0; k < p_.components; ++k) {
        write_log_normal<vectors>(parameters.component(k),
                                  scratch_.component[k]);
      }
    });
    if (p_.mixture != Mixture::kNone) {
      read_log_pi(block);
      BlockValues<T> log_prob[1];
      for (int v = 0; v < vectors_; ++v) log_prob->v[v] = mix(v);
      scatter<T, T>(log_prob, 1, block, out.log_prob, 1, 0);
    }
    if (out.keeps_components) {
      scatter<T, T>(scratch_.component, p_.components, block,
                    out.component_log_prob, p_.components, 0);
    }
  }

  // Reads what forward() has written, for a backward pass without one.
  void read_forward(const GmmBackward& in, const SampleBlock<T>& block) {
    if (p_.mixture == Mixture::kNone) return;
    read_log_pi(block);
    gather<T, T>(in.component_log_prob,
                 Offsets<T>(block, each_sample(), p_.components), 0,
                 p_.components, scratch_.component);
  }

  // Computes the gradients with respect to log N_k, and writes those of the
  // logits.
  void differentiate_mixture(const GmmBackward& out,
                             const SampleBlock<T>& block) {
    if (p_.mixture == Mixture::kNone) {
      gather<T, T>(out.grad, Offsets<T>(block, each_sample(), p_.components), 0,
                   p_.components, scratch_.grad_log_normal);
    } else {
      differentiate_log_prob(out, block);
    }
    for (int64_t k = 0; k < p_.components; ++k) clear_idle_lanes(block, k);
  }

  void write_grad_log_normal(const GmmBackward& out,
                             const SampleBlock<T>& block) {
    scatter<T, T>(scratch_.grad_log_normal, p_.components, block,
                  out.grad_log_normal, p_.components, 0);
  }

  // Reads what write_grad_log_normal() has written.
  void read_grad_log_normal(const GmmBackward& in, const SampleBlock<T>& block,
                            int64_t k) {
    gather<T, T>(in.grad_log_normal,
                 Offsets<T>(block, each_sample(), p_.components), k, 1,
                 scratch_.grad_log_normal + k);
    clear_idle_lanes(block, k);
  }

  void clear_grad_x() {
    std::memset(scratch_.grad_x, 0, p_.features * sizeof(BlockValues<T>));
  }

  template <typename Value, typename Sum>
  void add_grads(int64_t k, const Component<Value>& component, bool grad_x,
                 const ParameterGrads<Sum>& out) {
    const BlockValues<T>& grad = scratch_.grad_log_normal[k];
    BlockValues<T>* to = grad_x ? scratch_.grad_x.get() : nullptr;
    with_constant(vectors_, [&](auto vectors) {
      if constexpr (kTril) {
        add_tril_grads<T, vectors>(scratch_.x, component, p_.features, grad, to,
                                   out);
      } else {
        add_diagonal_grads<T, vectors>(scratch_.x, component, p_.features, grad,
                                       to, out);
      }
    });
  }

  // Writes the gradients of x and of the parameters of each sample.
  void write_grads(const GmmBackward& out, const SampleBlock<T>& block,
                   OwnParameters<Scalar>& parameters, const GradPlan& plan) {
    GradBlocks<Scalar> grads(out, plan, parameters.all());
    clear_grad_x();
    for (int64_t k = 0; k < p_.components; ++k) {
      const auto of_k = grads.begin(k);
      if (has_grad(k)) {
        const auto component = parameters.component(k);
        add_grads(k, component, out.grad_x, of_k);
        if (!kTril && of_k.scale) chain_scale_grads(component, of_k.scale);
      }
      grads.end(k, block);
    }
    if (out.grad_x) write_grad_x(out, block);
  }

  // Whether component k takes part in the gradients of any sample.
  bool has_grad(int64_t k) const {
    return any_not_zero(scratch_.grad_log_normal[k], vectors_);
  }

  void write_grad_x(const GmmBackward& out, const SampleBlock<T>& block) {
    scatter<T, T>(scratch_.grad_x, p_.features, block, out.grad_x, p_.features,
                  0);
  }

 private:
  RowMap each_sample() const {
    RowMap rows;
    rows.add_outer(p_.samples, false);
    return rows;
  }

  template <int kCount, typename Value>
  VTADL_HOST_INLINE void write_log_normal(const Component<Value>& component,
                                          BlockValues<T>& to) const {
    const auto distance =
        kTril
            ? tril_distance<T, kCount>(scratch_.x, component, p_.features)
            : diagonal_distance<T, kCount>(scratch_.x, component, p_.features);
    for (int v = 0; v < kCount; ++v) {
      to.v[v] = gmm::log_normal(
          p_.features, vector_of<T>(*component.log_det, v), distance.v[v]);
    }
  }

  void chain_scale_grads(const Component<BlockValues<T>>& component,
                         BlockValues<T>* grads) const {
    with_constant(vectors_, [&](auto vectors) {
      chain_grads<T, vectors>(p_.scale_param, component, p_.scale.size, grads);
    });
  }

  // The lanes behind the last sample have no gradients.
  void clear_idle_lanes(const SampleBlock<T>& block, int64_t k) {
    for (int lane = block.count; lane < vectors_ * kLanes<T>; ++lane) {
      scratch_.grad_log_normal[k][lane] = 0;
    }
  }

  void read_log_pi(const SampleBlock<T>& block) {
    gather<T, Scalar>(p_.logits,
                      Offsets<T>(block, p_.logits_rows, p_.components), 0,
                      p_.components, scratch_.log_pi);
    for (int v = 0; v < vectors_; ++v) {
      logits_lse_[v] = log_sum_exp<T>(scratch_.log_pi, p_.components, v);
      for (int64_t k = 0; k < p_.components; ++k) {
        auto& logit = scratch_.log_pi[k].v[v];
        logit = logits_lse_[v].log_softmax(logit);
      }
    }
  }

  // Returns log_prob; adds log π_k to the components under kLogSumExp.
  Vector<T> mix(int v) {
    if (p_.mixture == Mixture::kWeighted) return weighted_sum(v);
    for (int64_t k = 0; k < p_.components; ++k) {
      auto& component = scratch_.component[k].v[v];
      component = gmm::joint_log_prob(scratch_.log_pi[k].v[v], component);
    }
    return log_sum_exp<T>(scratch_.component, p_.components, v).total();
  }

  Vector<T> weighted_sum(int v) const {
    Vector<T> sum{};
    for (int64_t k = 0; k < p_.components; ++k) {
      const auto pi = gmm::probability(scratch_.log_pi[k].v[v]);
      sum += gmm::weighted_log_prob(pi, scratch_.component[k].v[v]);
    }
    return gmm::expected_log_normal(logits_lse_[v], sum);
  }

  void differentiate_log_prob(const GmmBackward& out,
                              const SampleBlock<T>& block) {
    BlockValues<T> log_prob[1], grad[1];
    const Offsets<T> samples(block, each_sample(), 1);
    gather<T, T>(out.log_prob, samples, 0, 1, log_prob);
    if (out.grad) {
      gather<T, T>(out.grad, samples, 0, 1, grad);
    } else {
      for (auto& g : grad->v) {
        g = broadcast<Vector<T>>(static_cast<T>(out.constant_grad));
      }
    }
    for (int64_t k = 0; k < p_.components; ++k) {
      for (int v = 0; v < vectors_; ++v) {
        const auto part = gmm::component_grad(
            p_.mixture, grad->v[v], gmm::probability(scratch_.log_pi[k].v[v]),
            scratch_.component[k].v[v], log_prob->v[v]);
        scratch_.grad_log_normal[k].v[v] = part.log_normal;
        scratch_.log_pi[k].v[v] = part.logit;
      }
    }
    if (out.grad_logits) {
      scatter<T, T>(scratch_.log_pi, p_.components, block, out.grad_logits,
                    p_.components, 0);
    }
  }

  const GmmProblem& p_;
  const BlockScratch<T> scratch_;
  int vectors_ = 0;  // those that hold samples of the block
  gmm::LogSumExp<Vector<T>> logits_lse_[kVectors];
};

// Either pass may be null.
template <typename Scalar, bool kTril>
void run_few_features(const GmmProblem& p, const GmmForward* forward,
                      const GmmBackward* backward, const GradPlan& plan) {
  using T = Accumulate<Scalar>;
  parallel_for(divide_up(p.samples, kBlockSamples<T>),
               grain_of(kBlockSamples<T> * p.components * p.features),
               [&](int64_t begin, int64_t end) {
                 BlockPass<Scalar, kTril> pass(p);
                 OwnParameters<Scalar> parameters(p);
                 for (int64_t i = begin; i < end; ++i) {
                   const auto block =
                       block_of_samples<T>(i * kBlockSamples<T>, p.samples);
                   pass.begin(block);
                   parameters.begin(block);
                   if (forward) pass.forward(*forward, block, parameters);
                   if (!backward) continue;
                   if (!forward) pass.read_forward(*backward, block);
                   pass.differentiate_mixture(*backward, block);
                   if (plan.any_summed())
                     pass.write_grad_log_normal(*backward, block);
                   if (backward->grad_x || plan.any_own()) {
                     pass.write_grads(*backward, block, parameters, plan);
                   }
                 }
               });
}

// The gradient of mu, or else of scale, from the gradients with respect to
// log N_k that run_few_features() has written.
template <typename Scalar, bool kTril>
void sum_few_features(const GmmBackward& p, bool of_mu) {
  using T = Accumulate<Scalar>;
  const RowMap& map = of_mu ? p.mu.rows : p.scale.rows;
  const Slabs slabs(p, map);
  SlabGrad<Scalar> mean(p, true, of_mu ? p.grad_mu : nullptr, slabs);
  SlabGrad<Scalar> scale(p, false, of_mu ? nullptr : p.grad_scale, slabs);
  parallel_for(slabs.units(), 1, [&](int64_t begin, int64_t end) {
    BlockPass<Scalar, kTril> pass(p);
    OwnParameters<Scalar> own(p);
    SlabSums<Scalar> sums(p, mean, scale);
    for (int64_t unit = begin; unit < end; ++unit) {
      sums.clear();
      for_each_block<T>(slabs, map, unit, [&](const SampleBlock<T>& block) {
        pass.begin(block);
        own.begin(block);
        for (int64_t k = 0; k < p.components; ++k) {
          pass.read_grad_log_normal(p, block, k);
          if (!pass.has_grad(k)) continue;
          pass.add_grads(k, own.component(k), false, sums.component(k));
        }
      });
      mean.write(unit, sums.mean());
      scale.write(unit, sums.scale());
    }
  });
  mean.finish();
  scale.finish();
}

template <typename Scalar, bool kTril>
void sum_few_features(const GmmBackward* p, const GradPlan& plan) {
  if (plan.summed_mu) sum_few_features<Scalar, kTril>(*p, true);
  if (plan.summed_scale) sum_few_features<Scalar, kTril>(*p, false);
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
