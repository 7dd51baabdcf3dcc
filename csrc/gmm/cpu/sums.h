// The gradients of parameters that samples share: sums over slabs of samples,
// added in the same order whatever the number of threads.
#pragma once

#include <algorithm>
#include <cstring>

#include "common/memory.h"
#include "common/parallel.h"
#include "gmm/cpu/component.h"
#include "gmm/cpu/plan.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The gradient of mu or scale, from the sums of each slab. The sums of a
// diagonal scale are gradients with respect to log_std until they are complete.
template <typename Scalar>
class SlabGrad {
 public:
  using T = Accumulate<Scalar>;

  SlabGrad(const GmmProblem& p, bool of_mu, void* out, const Slabs& slabs)
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

  // Stores sums of a slab, which are complete where it is the only one.
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

// Calls body(sample) for each sample of one slab.
template <typename Body>
void for_each_sample(const Slabs& slabs, const RowMap& map, int64_t unit,
                     const Body& body) {
  const int64_t row = unit / slabs.count;
  const int64_t first = unit % slabs.count * slabs.samples;
  const int64_t last = std::min(first + slabs.samples, map.repeats);
  for (int64_t i = first; i < last; ++i) body(map.sample(row, i));
}

// Calls body(block) for the samples of one slab, a block at a time.
template <typename T, typename Body>
void for_each_block(const Slabs& slabs, const RowMap& map, int64_t unit,
                    const Body& body) {
  const int64_t row = unit / slabs.count;
  const int64_t first = unit % slabs.count * slabs.samples;
  const int64_t last = std::min(first + slabs.samples, map.repeats);
  const auto run = map.repeat_run();
  for (int64_t i = first; i < last; i += kBlockSamples<T>) {
    SampleBlock<T> block;
    block.count =
        static_cast<int>(std::min<int64_t>(last - i, kBlockSamples<T>));
    for (int lane = 0; lane < kBlockSamples<T>; ++lane) {
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

// The sums of one slab; null where the gradient is not wanted.
template <typename Scalar>
class SlabSums {
 public:
  using T = Accumulate<Scalar>;

  SlabSums(const GmmProblem& p, const SlabGrad<Scalar>& mean,
           const SlabGrad<Scalar>& scale)
      : p_(p),
        mean_numel_(mean.numel()),
        scale_numel_(scale.numel()),
        mean_(mean_numel_),
        scale_(scale_numel_) {}

  void clear() {
    std::memset(mean_, 0, mean_numel_ * sizeof(Vector<T>));
    std::memset(scale_, 0, scale_numel_ * sizeof(Vector<T>));
  }

  ParameterGrads<Vector<T>> component(int64_t k) const {
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

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
