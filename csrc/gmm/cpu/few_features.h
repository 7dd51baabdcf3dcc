// Few features, or many samples of one mixture: the passes over vectors of
// samples.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/integers.h"
#include "common/memory.h"
#include "common/parallel.h"
#include "gmm/cpu/parameters.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

template <typename T>
gmm::LogSumExp<Vector<T>> log_sum_exp(const Lanes<T>* values, int64_t count,
                                      int v) {
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
VTADL_HOST_INLINE bool any_weight(const Lanes<T>& weight, int vectors) {
  // Not a comparison: NaN counts, and -0 does no harm.
  IntOf<Vector<T>> bits{};
  for (int v = 0; v < vectors; ++v) bits |= bits_of(weight.v[v]);
  for (int i = 0; i < kLanes<T>; ++i) {
    if (bits[i] != 0) return true;
  }
  return false;
}

// Room for one block of samples.
template <typename T>
struct BlockRoom {
  const Scratch<Lanes<T>> x, grad_x, log_pi, component, weight;

  explicit BlockRoom(const GmmProblem& p)
      : x(p.features),
        grad_x(p.features),
        log_pi(p.components),
        component(p.components),
        weight(p.components) {}
};

template <typename Scalar, bool kTril>
class LanePass {
 public:
  using T = Accumulate<Scalar>;

  explicit LanePass(const GmmProblem& p) : p_(p), room_(p) {}

  void begin(const Block<T>& block) {
    vectors_ = block.vectors();
    gather<T, Scalar>(p_.x, Offsets<T>(block, p_.x_rows, p_.features), 0,
                      p_.features, room_.x);
  }

  template <typename Parameters>
  void forward(const GmmForward& out, const Block<T>& block,
               Parameters& parameters) {
    with_constant(vectors_, [&](auto vectors) {
      for (int64_t k = 0; k < p_.components; ++k) {
        write_log_normal<vectors>(parameters.component(k), room_.component[k]);
      }
    });
    if (p_.mixture != Mixture::kNone) {
      read_log_pi(block);
      Lanes<T> log_prob[1];
      for (int v = 0; v < vectors_; ++v) log_prob->v[v] = mix(v);
      scatter<T, T>(log_prob, 1, block, out.log_prob, 1, 0);
    }
    if (out.keeps_components) {
      scatter<T, T>(room_.component, p_.components, block,
                    out.component_log_prob, p_.components, 0);
    }
  }

  // What forward() has left, for a backward pass of its own.
  void read_forward(const GmmBackward& in, const Block<T>& block) {
    if (p_.mixture == Mixture::kNone) return;
    read_log_pi(block);
    gather<T, T>(in.component_log_prob,
                 Offsets<T>(block, each_sample(), p_.components), 0,
                 p_.components, room_.component);
  }

  // The weights, and the logits' gradient.
  void weigh(const GmmBackward& out, const Block<T>& block) {
    if (p_.mixture == Mixture::kNone) {
      gather<T, T>(out.grad, Offsets<T>(block, each_sample(), p_.components), 0,
                   p_.components, room_.weight);
    } else {
      weigh_mixture(out, block);
    }
    for (int64_t k = 0; k < p_.components; ++k) clear_weight(block, k);
  }

  void write_weight(const GmmBackward& out, const Block<T>& block) {
    scatter<T, T>(room_.weight, p_.components, block, out.grad_log_normal,
                  p_.components, 0);
  }

  // Of weights written before.
  void read_weight(const GmmBackward& in, const Block<T>& block, int64_t k) {
    gather<T, T>(in.grad_log_normal,
                 Offsets<T>(block, each_sample(), p_.components), k, 1,
                 room_.weight + k);
    clear_weight(block, k);
  }

  void clear_grad_x() {
    std::memset(room_.grad_x, 0, p_.features * sizeof(Lanes<T>));
  }

  template <typename Value, typename Sum>
  void add_grads(int64_t k, const Component<Value>& component, bool grad_x,
                 const ComponentGrads<Sum>& out) {
    const Lanes<T>& weight = room_.weight[k];
    Lanes<T>* to = grad_x ? room_.grad_x.get() : nullptr;
    with_constant(vectors_, [&](auto vectors) {
      if constexpr (kTril) {
        tril_grads<T, vectors>(room_.x, component, p_.features, weight, to,
                               out);
      } else {
        diagonal_grads<T, vectors>(room_.x, component, p_.features, weight, to,
                                   out);
      }
    });
  }

  // Gradients of x and of the parameters of each sample.
  void write_grads(const GmmBackward& out, const Block<T>& block,
                   OwnParameters<Scalar>& parameters, const GradPlan& plan) {
    OwnGrads<Scalar> grads(out, plan, parameters.all());
    clear_grad_x();
    for (int64_t k = 0; k < p_.components; ++k) {
      const auto of_k = grads.begin(k);
      if (has_weight(k)) {
        const auto component = parameters.component(k);
        add_grads(k, component, out.grad_x, of_k);
        if (!kTril && of_k.scale) chain_scale_grads(component, of_k.scale);
      }
      grads.end(k, block);
    }
    if (out.grad_x) write_grad_x(out, block);
  }

  bool has_weight(int64_t k) const {
    return any_weight(room_.weight[k], vectors_);
  }

  void write_grad_x(const GmmBackward& out, const Block<T>& block) {
    scatter<T, T>(room_.grad_x, p_.features, block, out.grad_x, p_.features, 0);
  }

 private:
  RowMap each_sample() const {
    RowMap rows;
    rows.add_outer(p_.samples, false);
    return rows;
  }

  // log p(x|k).
  template <int kCount, typename Value>
  VTADL_HOST_INLINE void write_log_normal(const Component<Value>& component,
                                          Lanes<T>& to) const {
    const auto distance =
        kTril ? tril_distance<T, kCount>(room_.x, component, p_.features)
              : diagonal_distance<T, kCount>(room_.x, component, p_.features);
    for (int v = 0; v < kCount; ++v) {
      const auto log_det = Vector<T>{} + vector_of<T>(*component.log_det, v);
      to.v[v] = gmm::log_normal(p_.features, log_det, distance.v[v]);
    }
  }

  void chain_scale_grads(const Component<Lanes<T>>& component,
                         Lanes<T>* grads) const {
    with_constant(vectors_, [&](auto vectors) {
      chain_grads<T, vectors>(p_.scale_param, component, p_.scale.size, grads);
    });
  }

  // Of the lanes behind the last sample.
  void clear_weight(const Block<T>& block, int64_t k) {
    for (int lane = block.count; lane < vectors_ * kLanes<T>; ++lane) {
      room_.weight[k][lane] = 0;
    }
  }

  void read_log_pi(const Block<T>& block) {
    gather<T, Scalar>(p_.logits,
                      Offsets<T>(block, p_.logits_rows, p_.components), 0,
                      p_.components, room_.log_pi);
    for (int v = 0; v < vectors_; ++v) {
      const auto weights = log_sum_exp<T>(room_.log_pi, p_.components, v);
      for (int64_t k = 0; k < p_.components; ++k) {
        room_.log_pi[k].v[v] = weights.log_softmax(room_.log_pi[k].v[v]);
      }
    }
  }

  // log_prob; adds log π_k to the components under kLogSumExp.
  Vector<T> mix(int v) {
    if (p_.mixture == Mixture::kWeighted) return weighted_sum(v);
    for (int64_t k = 0; k < p_.components; ++k) {
      const auto log_pi = room_.log_pi[k].v[v];
      auto& component = room_.component[k].v[v];
      component = select(log_pi == -INFINITY, log_pi, component + log_pi);
    }
    return log_sum_exp<T>(room_.component, p_.components, v).total();
  }

  Vector<T> weighted_sum(int v) const {
    Vector<T> sum{}, total{};
    for (int64_t k = 0; k < p_.components; ++k) {
      const auto pi = weight_of(k, v);
      total += pi;
      sum += select(pi == 0, Vector<T>{}, pi * room_.component[k].v[v]);
    }
    const auto impossible = broadcast<Vector<T>>(-static_cast<T>(INFINITY));
    return select(total == 0, impossible, sum);
  }

  Vector<T> weight_of(int64_t k, int v) const {
    const auto log_pi = room_.log_pi[k].v[v];
    return select(log_pi == -INFINITY, Vector<T>{}, gmm::exponential(log_pi));
  }

  void weigh_mixture(const GmmBackward& out, const Block<T>& block) {
    Lanes<T> log_prob[1], grad[1];
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
        const auto part =
            gmm::component_grad(p_.mixture, grad->v[v], weight_of(k, v),
                                room_.component[k].v[v], log_prob->v[v]);
        room_.weight[k].v[v] = part.log_normal;
        room_.log_pi[k].v[v] = part.logit;
      }
    }
    if (out.grad_logits) {
      scatter<T, T>(room_.log_pi, p_.components, block, out.grad_logits,
                    p_.components, 0);
    }
  }

  const GmmProblem& p_;
  const BlockRoom<T> room_;
  int vectors_ = 0;  // of the block that count
};

// The pass over samples that share nothing or little. Either pass may be null.
template <typename Scalar, bool kTril>
void run_lanes(const GmmProblem& p, const GmmForward* forward,
               const GmmBackward* backward, const GradPlan& plan) {
  using T = Accumulate<Scalar>;
  const int64_t cost = kBlock<T> * p.components * p.features;
  parallel_for(
      divide_up(p.samples, kBlock<T>), std::max<int64_t>(1, kGrain / cost),
      [&](int64_t begin, int64_t end) {
        LanePass<Scalar, kTril> pass(p);
        OwnParameters<Scalar> parameters(p);
        for (int64_t i = begin; i < end; ++i) {
          const auto block = block_of_samples<T>(i * kBlock<T>, p.samples);
          pass.begin(block);
          parameters.begin(block);
          if (forward) pass.forward(*forward, block, parameters);
          if (!backward) continue;
          if (!forward) pass.read_forward(*backward, block);
          pass.weigh(*backward, block);
          if (plan.any_summed()) pass.write_weight(*backward, block);
          if (backward->grad_x || plan.any_own()) {
            pass.write_grads(*backward, block, parameters, plan);
          }
        }
      });
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
