// Parameters that many samples share: their gradients are sums over samples,
// added in the same order whatever the number of threads.
#pragma once

#include "gmm/cpu/few_features.h"
#include "gmm/cpu/per_sample.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The samples of each row of parameters, in slabs that threads share out.
struct Slabs {
  int64_t rows, count, samples;  // count per row, of `samples` each

  Slabs(const GmmProblem& p, const RowMap& map) : rows(map.rows) {
    constexpr int64_t kMost = 32;
    // Enough work for a thread, and partial sums of no more than N·K elements.
    const int64_t elements =
        p.mu.components * p.mu.size + p.scale.components * p.scale.size;
    const int64_t least = std::max(divide_up(kGrain, p.components * p.features),
                                   divide_up(elements, p.components));
    // Whole blocks of vectors, of any type.
    constexpr int64_t kMultiple = kBlock<float>;
    samples = std::max(least, divide_up(map.repeats, kMost));
    samples = divide_up(samples, kMultiple) * kMultiple;
    count = std::max<int64_t>(1, divide_up(map.repeats, samples));
  }

  int64_t units() const { return rows * count; }
};

// The gradient of mu or scale, from the sums of each slab: those with respect
// to log_std for a diagonal scale, whose slope waits for the last sum.
template <typename Scalar>
class SummedGrad {
 public:
  using T = Accumulate<Scalar>;

  SummedGrad(const GmmProblem& p, bool of_mu, void* out, const Slabs& slabs)
      : scale_param_(p.scale_param),
        floor_(p.min_std),
        chains_(!of_mu && p.scale_param != ScaleParam::kTril),
        raw_(static_cast<const Scalar*>(of_mu ? p.mu.data : p.scale.data)),
        numel_(of_mu ? p.mu.components * p.mu.size
                     : p.scale.components * p.scale.size),
        slabs_(slabs),
        out_(static_cast<Scalar*>(out)),
        partial_(out && slabs.count > 1 ? slabs.units() * numel_ : 0) {}

  int64_t numel() const { return out_ ? numel_ : 0; }

  void write(int64_t unit, const Vector<T>* sums) {
    for_each_vector<T>(numel(), [&](int64_t i, int count) {
      Vector<T> square[kLanes<T>] = {};
      std::copy_n(sums + i, count, square);
      put(unit * numel_ + i, sum_of_each<T>(square), count);
    });
  }

  void write(int64_t unit, const T* sums) {
    for_each_vector<T>(numel(), [&](int64_t i, int count) {
      put(unit * numel_ + i, load<T>(sums + i, count), count);
    });
  }

  void finish() {
    if (!out_ || slabs_.count == 1) return;
    parallel_for(slabs_.rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) add_slabs(row);
    });
  }

 private:
  void add_slabs(int64_t row) {
    T* total = partial_ + row * slabs_.count * numel_;
    for (int64_t slab = 1; slab < slabs_.count; ++slab) {
      const T* part = total + slab * numel_;
      for (int64_t i = 0; i < numel_; ++i) total[i] += part[i];
    }
    for_each_vector<T>(numel_, [&](int64_t i, int count) {
      finish(row * numel_ + i, load<T>(total + i, count), count);
    });
  }

  // The sums of a slab.
  void put(int64_t i, Vector<T> sums, int count) {
    if (slabs_.count > 1) {
      store<T>(partial_ + i, sums, count);
    } else {
      finish(i, sums, count);
    }
  }

  void finish(int64_t i, Vector<T> total, int count) {
    if (chains_) {
      const auto raw = load<T>(raw_ + i, count);
      const auto scale = gmm::activate(scale_param_, raw, floor_);
      total = gmm::chain(scale_param_, total, scale);
    }
    store<T>(out_ + i, total, count);
  }

  const ScaleParam scale_param_;
  const gmm::Floor<T> floor_;
  const bool chains_;
  const Scalar* const raw_;
  const int64_t numel_;
  const Slabs slabs_;
  Scalar* const out_;
  const Scratch<T> partial_;
};

// Calls body(sample) for the samples of one slab.
template <typename Body>
void for_each_sample(const Slabs& slabs, const RowMap& map, int64_t unit,
                     const Body& body) {
  const int64_t row = unit / slabs.count;
  const int64_t first = unit % slabs.count * slabs.samples;
  const int64_t last = std::min(first + slabs.samples, map.repeats);
  for (int64_t i = first; i < last; ++i) body(map.sample(row, i));
}

// Calls body(block) for the samples of one slab.
template <typename T, typename Body>
void for_each_block(const Slabs& slabs, const RowMap& map, int64_t unit,
                    const Body& body) {
  const int64_t row = unit / slabs.count;
  const int64_t first = unit % slabs.count * slabs.samples;
  const int64_t last = std::min(first + slabs.samples, map.repeats);
  const auto run = map.repeat_run();
  for (int64_t i = first; i < last; i += kBlock<T>) {
    Block<T> block;
    block.count = static_cast<int>(std::min<int64_t>(last - i, kBlock<T>));
    for (int lane = 0; lane < kBlock<T>; ++lane) {
      if (lane >= block.count) {
        block.sample[lane] = block.sample[lane - 1];
      } else if (lane > 0 && (i + lane) % run.length != 0) {
        block.sample[lane] = block.sample[lane - 1] + run.step;
      } else {
        block.sample[lane] = map.sample(row, i + lane);
      }
    }
    body(block);
  }
}

// Sums of one slab; null where the gradient is not wanted.
template <typename Scalar>
class SlabSums {
 public:
  using T = Accumulate<Scalar>;

  SlabSums(const GmmProblem& p, const SummedGrad<Scalar>& mean,
           const SummedGrad<Scalar>& scale)
      : p_(p),
        mean_numel_(mean.numel()),
        scale_numel_(scale.numel()),
        mean_(mean_numel_),
        scale_(scale_numel_) {}

  void clear() {
    std::memset(mean_, 0, mean_numel_ * sizeof(Vector<T>));
    std::memset(scale_, 0, scale_numel_ * sizeof(Vector<T>));
  }

  ComponentGrads<Vector<T>> component(int64_t k) const {
    return {mean_numel_ ? mean_ + p_.mu.offset(0, k) : nullptr,
            scale_numel_ ? scale_ + p_.scale.offset(0, k) : nullptr,
            p_.mu.size > 1, p_.scale.size > 1};
  }

  const Vector<T>* mean() const { return mean_; }
  const Vector<T>* scale() const { return scale_; }

 private:
  const GmmProblem& p_;
  const int64_t mean_numel_, scale_numel_;
  const Scratch<Vector<T>> mean_, scale_;
};

// mu and scale shared by the same samples. Either pass may be null.
template <typename Scalar, bool kTril>
void run_shared(const GmmProblem& p, const GmmForward* forward,
                const GmmBackward* backward) {
  using T = Accumulate<Scalar>;
  const RowMap& map = p.mu.rows;
  const Slabs slabs(p, map);
  SummedGrad<Scalar> mean(p, true, backward ? backward->grad_mu : nullptr,
                          slabs);
  SummedGrad<Scalar> scale(p, false, backward ? backward->grad_scale : nullptr,
                           slabs);
  const bool grad_x = backward && backward->grad_x;
  const bool grads = grad_x || mean.numel() || scale.numel();
  const int64_t cost =
      std::min(map.repeats, slabs.samples) * p.components * p.features;
  parallel_for(
      slabs.units(), std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cost)),
      [&](int64_t begin, int64_t end) {
        LanePass<Scalar, kTril> pass(p);
        SharedParameters<Scalar> shared(p);
        SlabSums<Scalar> sums(p, mean, scale);
        for (int64_t unit = begin; unit < end; ++unit) {
          shared.begin(unit / slabs.count);
          sums.clear();
          for_each_block<T>(slabs, map, unit, [&](const Block<T>& block) {
            pass.begin(block);
            if (forward) pass.forward(*forward, block, shared);
            if (!backward) return;
            if (!forward) pass.read_forward(*backward, block);
            pass.weigh(*backward, block);
            if (!grads) return;
            pass.clear_grad_x();
            for (int64_t k = 0; k < p.components; ++k) {
              if (!pass.has_weight(k)) continue;
              pass.add_grads(k, shared.component(k), grad_x, sums.component(k));
            }
            if (grad_x) pass.write_grad_x(*backward, block);
          });
          mean.write(unit, sums.mean());
          scale.write(unit, sums.scale());
        }
      });
  mean.finish();
  scale.finish();
}

// The gradient of mu, or else of scale, from weights that a pass before has
// written: for parameters that samples share in any other way.
template <typename Scalar, bool kTril>
void run_parameter_in_lanes(const GmmBackward& p, bool of_mu) {
  using T = Accumulate<Scalar>;
  const RowMap& map = of_mu ? p.mu.rows : p.scale.rows;
  const Slabs slabs(p, map);
  SummedGrad<Scalar> mean(p, true, of_mu ? p.grad_mu : nullptr, slabs);
  SummedGrad<Scalar> scale(p, false, of_mu ? nullptr : p.grad_scale, slabs);
  parallel_for(slabs.units(), 1, [&](int64_t begin, int64_t end) {
    LanePass<Scalar, kTril> pass(p);
    OwnParameters<Scalar> own(p);
    SlabSums<Scalar> sums(p, mean, scale);
    for (int64_t unit = begin; unit < end; ++unit) {
      sums.clear();
      for_each_block<T>(slabs, map, unit, [&](const Block<T>& block) {
        pass.begin(block);
        own.begin(block);
        for (int64_t k = 0; k < p.components; ++k) {
          pass.read_weight(p, block, k);
          if (!pass.has_weight(k)) continue;
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

// The same for many features.
template <typename Scalar, ScaleParam kParam>
void run_parameter_in_rows(const GmmBackward& p, bool of_mu) {
  using T = Accumulate<Scalar>;
  const GmmParameter& parameter = of_mu ? p.mu : p.scale;
  const Slabs slabs(p, parameter.rows);
  SummedGrad<Scalar> grad(p, of_mu, of_mu ? p.grad_mu : p.grad_scale, slabs);
  const RowPass<Scalar, kParam, false> pass(p);
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

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
