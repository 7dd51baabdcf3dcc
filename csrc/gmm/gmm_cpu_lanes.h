// Few features, or many samples of one mixture: vectors of samples.
#pragma once

#include <algorithm>
#include <cmath>

#include "common/integers.h"
#include "common/memory.h"
#include "common/parallel.h"
#include "common/simd_memory.h"
#include "gmm/gmm.h"
#include "gmm/gmm_math.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

// What the pass over the samples writes beside the gradients of x and logits:
// the wanted ones of parameters that neither samples nor components share, and
// the weights that the sums for other parameters need.
struct OwnParts {
  bool mu, scale, weights;
};

constexpr int kVectors = 4;  // of samples in a block: as many sums in flight
template <typename T>
constexpr int kBlock = kVectors * kLanes<T>;  // samples

// One number of each sample in a block.
template <typename T>
struct Lanes {
  Vector<T> v[kVectors];

  VTADL_HOST_INLINE T& operator[](int lane) {
    return reinterpret_cast<T*>(v)[lane];
  }
};

// The samples of a block. Behind the last one it is repeated, with no weight.
template <typename T>
struct Block {
  int64_t sample[kBlock<T>];
  int count;
};

// Rows that each sample of a block reads, as offsets of their first elements.
template <typename T>
struct Offsets {
  int64_t of[kBlock<T>];

  Offsets() = default;
  VTADL_HOST_INLINE Offsets(const Block<T>& block, const RowMap& rows,
                            int64_t row_size) {
    for (int lane = 0; lane < kBlock<T>; ++lane) {
      of[lane] = rows.row(block.sample[lane]) * row_size;
    }
  }
};

// So few elements are copied one by one.
constexpr int64_t kFewElements = 4;

// Elements [first, first + count) of each sample's row, as `to[count]`.
template <typename T, typename Scalar>
VTADL_HOST_INLINE void gather(const void* base, const Offsets<T>& rows,
                              int64_t first, int64_t count, Lanes<T>* to) {
  const Scalar* from = static_cast<const Scalar*>(base) + first;
  if (count < kFewElements) {
    for (int64_t i = 0; i < count; ++i) {
      for (int lane = 0; lane < kBlock<T>; ++lane) {
        to[i][lane] = static_cast<T>(from[rows.of[lane] + i]);
      }
    }
    return;
  }
  for_each_vector<T>(count, [&](int64_t i, int some) {
    for (int v = 0; v < kVectors; ++v) {
      Vector<T> square[kLanes<T>];
      const int64_t* offsets = rows.of + v * kLanes<T>;
      for (int j = 0; j < kLanes<T>; ++j) {
        square[j] = load<T>(from + offsets[j] + i, some);
      }
      transpose<T>(square);
      for (int j = 0; j < some; ++j) to[i + j].v[v] = square[j];
    }
  });
}

// The way back. `size`: elements of a sample's row, of which these are the
// ones from `first` on.
template <typename T, typename Scalar>
VTADL_HOST_INLINE void scatter(Lanes<T>* from, int64_t count,
                               const Block<T>& block, void* base, int64_t size,
                               int64_t first) {
  Scalar* to = static_cast<Scalar*>(base) + first;
  if (count < kFewElements) {
    for (int lane = 0; lane < block.count; ++lane) {
      for (int64_t i = 0; i < count; ++i) {
        to[block.sample[lane] * size + i] = static_cast<Scalar>(from[i][lane]);
      }
    }
    return;
  }
  for_each_vector<T>(count, [&](int64_t i, int some) {
    for (int v = 0; v * kLanes<T> < block.count; ++v) {
      Vector<T> square[kLanes<T>] = {};
      for (int j = 0; j < some; ++j) square[j] = from[i + j].v[v];
      transpose<T>(square);
      const int lanes = std::min(block.count - v * kLanes<T>, kLanes<T>);
      for (int j = 0; j < lanes; ++j) {
        const int64_t sample = block.sample[v * kLanes<T> + j];
        store<T>(to + sample * size + i, square[j], some);
      }
    }
  });
}

// ------------------------------------------------------- one component

// The parameters of a component, activated. Value: Lanes<T> where each sample
// has its own, T where all samples of a block share them. The steps from one
// feature to the next are 0 where all features share a parameter.
template <typename Value>
struct Component {
  const Value* mean;
  const Value* inverse_std;  // under kTril of the diagonal
  const Value* slope;        // null under kTril
  const Value* factor;       // [D, D], under kTril only
  const Value* log_det;
  int64_t mean_step, scale_step;
};

template <typename T>
VTADL_HOST_INLINE Vector<T> vector_of(const Lanes<T>& lanes, int v) {
  return lanes.v[v];
}
template <typename T>
VTADL_HOST_INLINE T vector_of(const T& value, int) {
  return value;
}

// Gradients of a component's parameters. Sum: Lanes<T> for each sample apart,
// Vector<T> for sums over the samples. Null where they are not wanted.
template <typename Sum>
struct ComponentGrads {
  Sum* mean;
  Sum* scale;
  int64_t mean_step, scale_step;
};

template <typename T>
VTADL_HOST_INLINE void add(const Vector<T> (&values)[kVectors], Lanes<T>& to) {
  for (int v = 0; v < kVectors; ++v) to.v[v] += values[v];
}
template <typename T>
VTADL_HOST_INLINE void add(const Vector<T> (&values)[kVectors], Vector<T>& to) {
  to += (values[0] + values[1]) + (values[2] + values[3]);
}

template <typename T, typename Value>
VTADL_HOST_INLINE Lanes<T> diagonal_distance(const Lanes<T>* x,
                                             const Component<Value>& c,
                                             int64_t features) {
  Lanes<T> distance{};
  for (int64_t d = 0; d < features; ++d) {
    const Value& mean = c.mean[d * c.mean_step];
    const Value& inverse_std = c.inverse_std[d * c.scale_step];
    for (int v = 0; v < kVectors; ++v) {
      const auto z =
          (x[d].v[v] - vector_of<T>(mean, v)) * vector_of<T>(inverse_std, v);
      distance.v[v] += z * z;
    }
  }
  return distance;
}

template <typename T, typename Value, typename Sum>
VTADL_HOST_INLINE void diagonal_grads(const Lanes<T>* x,
                                      const Component<Value>& c,
                                      int64_t features, const Lanes<T>& weight,
                                      Lanes<T>* grad_x,
                                      const ComponentGrads<Sum>& out) {
  constexpr bool kOwnSlope = std::is_same_v<Value, Lanes<T>>;
  for (int64_t d = 0; d < features; ++d) {
    const Value& mean = c.mean[d * c.mean_step];
    const Value& inverse_std = c.inverse_std[d * c.scale_step];
    Vector<T> mean_grad[kVectors], scale_grad[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const Vector<T> w = weight.v[v];
      const auto z =
          (x[d].v[v] - vector_of<T>(mean, v)) * vector_of<T>(inverse_std, v);
      const auto pull = w * z;
      // Without weight nothing counts, whatever the component holds.
      mean_grad[v] =
          select(w != 0, pull * vector_of<T>(inverse_std, v), Vector<T>{});
      scale_grad[v] = select(w != 0, pull * z - w, Vector<T>{});
      if constexpr (kOwnSlope) {
        scale_grad[v] =
            gmm::chain(scale_grad[v], c.slope[d * c.scale_step].v[v]);
      }
      if (grad_x) grad_x[d].v[v] -= mean_grad[v];
    }
    if (out.mean) add<T>(mean_grad, out.mean[d * out.mean_step]);
    if (out.scale) add<T>(scale_grad, out.scale[d * out.scale_step]);
  }
}

// y = factor⁻¹·(x - mean), one vector of samples.
template <typename T, typename Value>
VTADL_HOST_INLINE void whiten(const Lanes<T>* x, const Component<Value>& c,
                              int64_t features, int v, Vector<T>* y) {
  for (int64_t i = 0; i < features; ++i) {
    Vector<T> rest = x[i].v[v] - vector_of<T>(c.mean[i * c.mean_step], v);
    for (int64_t j = 0; j < i; ++j) {
      rest -= vector_of<T>(c.factor[i * features + j], v) * y[j];
    }
    y[i] = rest * vector_of<T>(c.inverse_std[i], v);
  }
}

template <typename T, typename Value>
VTADL_HOST_INLINE Lanes<T> tril_distance(const Lanes<T>* x,
                                         const Component<Value>& c,
                                         int64_t features) {
  Lanes<T> distance{};
  for (int v = 0; v < kVectors; ++v) {
    Vector<T> y[kMaxTrilFeatures];
    whiten<T>(x, c, features, v, y);
    for (int64_t i = 0; i < features; ++i) distance.v[v] += y[i] * y[i];
  }
  return distance;
}

template <typename T, typename Value, typename Sum>
VTADL_HOST_INLINE void tril_grads(const Lanes<T>* x, const Component<Value>& c,
                                  int64_t features, const Lanes<T>& weight,
                                  Lanes<T>* grad_x,
                                  const ComponentGrads<Sum>& out) {
  // u = factor⁻ᵀ·y; y and u of all vectors.
  Lanes<T> y[kMaxTrilFeatures], u[kMaxTrilFeatures];
  for (int v = 0; v < kVectors; ++v) {
    Vector<T> one[kMaxTrilFeatures];
    whiten<T>(x, c, features, v, one);
    for (int64_t i = features - 1; i >= 0; --i) {
      Vector<T> rest = one[i];
      for (int64_t j = i + 1; j < features; ++j) {
        rest -= vector_of<T>(c.factor[j * features + i], v) * u[j].v[v];
      }
      u[i].v[v] = rest * vector_of<T>(c.inverse_std[i], v);
      y[i].v[v] = one[i];
    }
  }
  for (int64_t i = 0; i < features; ++i) {
    Vector<T> pull[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const Vector<T> w = weight.v[v];
      pull[v] = select(w != 0, w * u[i].v[v], Vector<T>{});
      if (grad_x) grad_x[i].v[v] -= pull[v];
    }
    if (out.mean) add<T>(pull, out.mean[i * out.mean_step]);
    for (int64_t j = 0; out.scale && j <= i; ++j) {
      Vector<T> grad[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        const Vector<T> w = weight.v[v];
        grad[v] = pull[v] * y[j].v[v];
        if (i == j) grad[v] -= w * vector_of<T>(c.inverse_std[i], v);
        grad[v] = select(w != 0, grad[v], Vector<T>{});
      }
      add<T>(grad, out.scale[i * features + j]);
    }
  }
}

// ---------------------------------------------------------- parameters

// As many parameters are kept for all samples of a block at a time.
constexpr int64_t kMaxKept = 128;

// The mixture of each sample: all its components where they are small enough,
// or else one at a time.
template <typename Scalar>
class OwnParameters {
 public:
  using T = Accumulate<Scalar>;
  using Value = Lanes<T>;

  explicit OwnParameters(const GmmProblem& p)
      : p_(p),
        floor_(p.min_std),
        tril_(p.scale_param == ScaleParam::kTril),
        scales_(tril_ ? p.features : p.scale.size),
        all_(p.components * p.scale.size <= kMaxKept &&
             p.components * p.mu.size <= kMaxKept),
        mean_(kept(p.mu) * p.mu.size),
        raw_(kept(p.scale) * p.scale.size),
        inverse_std_(kept(p.scale) * scales_),
        slope_(kept(p.scale) * scales_),
        log_det_(kept(p.scale)) {}

  bool all() const { return all_; }

  void begin(const Block<T>& block) {
    mu_rows_ = Offsets<T>(block, p_.mu.rows, p_.mu.offset(1, 0));
    scale_rows_ = Offsets<T>(block, p_.scale.rows, p_.scale.offset(1, 0));
    if (all_) read(0);
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
  int64_t kept(const GmmParameter& parameter) const {
    return all_ ? parameter.components : 1;
  }

  // From component k on.
  void read(int64_t k) {
    gather<T, Scalar>(p_.mu.data, mu_rows_, p_.mu.offset(0, k),
                      kept(p_.mu) * p_.mu.size, mean_);
    gather<T, Scalar>(p_.scale.data, scale_rows_, p_.scale.offset(0, k),
                      kept(p_.scale) * p_.scale.size, raw_);
    for (int64_t i = 0; i < kept(p_.scale); ++i) activate(i);
  }

  void activate(int64_t k) {
    const Lanes<T>* raw = raw_ + k * p_.scale.size;
    Lanes<T>* inverse_std = inverse_std_ + k * scales_;
    Lanes<T>* slope = slope_ + k * scales_;
    const T repeats = static_cast<T>(p_.features / scales_);
    for (int v = 0; v < kVectors; ++v) {
      Vector<T> log_det{};
      for (int64_t i = 0; i < scales_; ++i) {
        if (tril_) {
          const auto diagonal = raw[i * (p_.features + 1)].v[v];
          inverse_std[i].v[v] = T(1) / diagonal;
          log_det += gmm::logarithm(diagonal);
        } else {
          const auto scale = gmm::activate(p_.scale_param, raw[i].v[v], floor_);
          inverse_std[i].v[v] = scale.inverse_std;
          slope[i].v[v] = scale.slope;
          log_det += scale.log_std;
        }
      }
      log_det_[k].v[v] = log_det * repeats;
    }
  }

  const GmmProblem& p_;
  const gmm::Floor<T> floor_;
  const bool tril_;
  const int64_t scales_;
  const bool all_;
  const Scratch<Lanes<T>> mean_, raw_, inverse_std_, slope_, log_det_;
  Offsets<T> mu_rows_, scale_rows_;
};

// Gradients of the mixtures of each sample, written as they were read.
template <typename Scalar>
class OwnGrads {
 public:
  using T = Accumulate<Scalar>;

  OwnGrads(const GmmBackward& p, const OwnParts& own, bool all)
      : p_(p),
        kept_(all ? p.components : 1),
        mean_wanted_(own.mu),
        scale_wanted_(own.scale),
        mean_(mean_wanted_ ? kept_ * p.mu.size : 0),
        scale_(scale_wanted_ ? kept_ * p.scale.size : 0) {}

  ComponentGrads<Lanes<T>> begin(int64_t k) {
    const int64_t slot = kept_ > 1 ? k : 0;
    ComponentGrads<Lanes<T>> grads{nullptr, nullptr, p_.mu.size > 1,
                                   p_.scale.size > 1};
    if (mean_wanted_) grads.mean = cleared(mean_, slot, p_.mu.size);
    if (scale_wanted_) grads.scale = cleared(scale_, slot, p_.scale.size);
    return grads;
  }

  void end(int64_t k, const Block<T>& block) {
    if (kept_ == 1) {
      write(k, block);
    } else if (k + 1 == kept_) {
      write(0, block);
    }
  }

 private:
  static Lanes<T>* cleared(Lanes<T>* room, int64_t slot, int64_t size) {
    std::fill_n(room + slot * size, size, Lanes<T>{});
    return room + slot * size;
  }

  void write(int64_t k, const Block<T>& block) {
    if (mean_wanted_) {
      scatter<T, Scalar>(mean_, kept_ * p_.mu.size, block, p_.grad_mu,
                         p_.mu.offset(1, 0), p_.mu.offset(0, k));
    }
    if (scale_wanted_) {
      scatter<T, Scalar>(scale_, kept_ * p_.scale.size, block, p_.grad_scale,
                         p_.scale.offset(1, 0), p_.scale.offset(0, k));
    }
  }

  const GmmBackward& p_;
  const int64_t kept_;
  const bool mean_wanted_, scale_wanted_;
  const Scratch<Lanes<T>> mean_, scale_;
};

// The mixture that all samples of a block share.
template <typename Scalar>
class SharedParameters {
 public:
  using T = Accumulate<Scalar>;
  using Value = T;

  explicit SharedParameters(const GmmProblem& p)
      : p_(p),
        floor_(p.min_std),
        tril_(p.scale_param == ScaleParam::kTril),
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
            nullptr,
            raw_ + scale * p_.scale.size,
            log_det_ + scale,
            p_.mu.size > 1,
            scales_ > 1};
  }

  // Derivatives of log_std by each element of scale; null for 1.
  const T* slope() const { return tril_ ? nullptr : slope_.get(); }

 private:
  static void read(const GmmParameter& from, int64_t row, T* to) {
    const Scalar* first =
        static_cast<const Scalar*>(from.data) + from.offset(row, 0);
    for (int64_t i = 0; i < from.components * from.size; ++i) {
      to[i] = static_cast<T>(first[i]);
    }
  }

  // Both return Σ log std.
  T activate(int64_t k) {
    const int64_t first = k * scales_;
    Vector<T> log_det{};
    for_each_vector<T>(scales_, [&](int64_t i, int count) {
      const auto scale = gmm::activate(
          p_.scale_param, load<T>(raw_ + first + i, count), floor_);
      store<T>(inverse_std_ + first + i, scale.inverse_std, count);
      store<T>(slope_ + first + i, scale.slope, count);
      log_det += keep<T>(scale.log_std, count);
    });
    return sum<T>(log_det);
  }

  T invert_diagonal(int64_t k) {
    T log_det = 0;
    for (int64_t i = 0; i < scales_; ++i) {
      const T diagonal = raw_[k * p_.scale.size + i * (p_.features + 1)];
      inverse_std_[k * scales_ + i] = 1 / diagonal;
      log_det += gmm::logarithm(diagonal);
    }
    return log_det;
  }

  const GmmProblem& p_;
  const gmm::Floor<T> floor_;
  const bool tril_;
  const int64_t scales_;
  const Scratch<T> mean_, raw_, inverse_std_, slope_, log_det_;
};

// ----------------------------------------------------- the mixture's weights

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
VTADL_HOST_INLINE bool any_weight(const Lanes<T>& weight) {
  // Not a comparison: NaN counts, and -0 does no harm.
  IntOf<Vector<T>> bits{};
  for (int v = 0; v < kVectors; ++v) bits |= bits_of(weight.v[v]);
  for (int i = 0; i < kLanes<T>; ++i) {
    if (bits[i] != 0) return true;
  }
  return false;
}

// --------------------------------------------------------------- the passes

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

  void read_x(const Block<T>& block) {
    gather<T, Scalar>(p_.x, Offsets<T>(block, p_.x_rows, p_.features), 0,
                      p_.features, room_.x);
  }

  template <typename Parameters>
  void forward(const GmmForward& out, const Block<T>& block,
               Parameters& parameters) {
    const T constant = T(-0.5 * gmm::kLog2Pi) * static_cast<T>(p_.features);
    for (int64_t k = 0; k < p_.components; ++k) {
      const auto component = parameters.component(k);
      const auto distance =
          kTril ? tril_distance<T>(room_.x, component, p_.features)
                : diagonal_distance<T>(room_.x, component, p_.features);
      for (int v = 0; v < kVectors; ++v) {
        room_.component[k].v[v] = constant -
                                  vector_of<T>(*component.log_det, v) -
                                  T(0.5) * distance.v[v];
      }
    }
    if (p_.mixture != Mixture::kNone) {
      read_log_pi(block);
      Lanes<T> log_prob[1];
      for (int v = 0; v < kVectors; ++v) log_prob->v[v] = mix(v);
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
    for (int lane = block.count; lane < kBlock<T>; ++lane) {
      for (int64_t k = 0; k < p_.components; ++k) room_.weight[k][lane] = 0;
    }
  }

  void write_weight(const GmmBackward& out, const Block<T>& block) {
    scatter<T, T>(room_.weight, p_.components, block, out.weight, p_.components,
                  0);
  }

  // Of weights written before.
  void read_weight(const GmmBackward& in, const Block<T>& block, int64_t k) {
    gather<T, T>(in.weight, Offsets<T>(block, each_sample(), p_.components), k,
                 1, room_.weight + k);
    for (int lane = block.count; lane < kBlock<T>; ++lane) {
      room_.weight[k][lane] = 0;
    }
  }

  void clear_grad_x() {
    std::memset(room_.grad_x, 0, p_.features * sizeof(Lanes<T>));
  }

  template <typename Value, typename Sum>
  void add_grads(int64_t k, const Component<Value>& component, bool grad_x,
                 const ComponentGrads<Sum>& out) {
    const Lanes<T>& weight = room_.weight[k];
    Lanes<T>* to = grad_x ? room_.grad_x.get() : nullptr;
    if constexpr (kTril) {
      tril_grads<T>(room_.x, component, p_.features, weight, to, out);
    } else {
      diagonal_grads<T>(room_.x, component, p_.features, weight, to, out);
    }
  }

  // Gradients of x and of the parameters of each sample.
  void write_grads(const GmmBackward& out, const Block<T>& block,
                   OwnParameters<Scalar>& parameters, const OwnParts& own) {
    OwnGrads<Scalar> grads(out, own, parameters.all());
    clear_grad_x();
    for (int64_t k = 0; k < p_.components; ++k) {
      const auto component_grads = grads.begin(k);
      if (has_weight(k)) {
        add_grads(k, parameters.component(k), out.grad_x, component_grads);
      }
      grads.end(k, block);
    }
    if (out.grad_x) write_grad_x(out, block);
  }

  bool has_weight(int64_t k) const { return any_weight(room_.weight[k]); }

  void write_grad_x(const GmmBackward& out, const Block<T>& block) {
    scatter<T, T>(room_.grad_x, p_.features, block, out.grad_x, p_.features, 0);
  }

 private:
  RowMap each_sample() const {
    RowMap rows;
    rows.add_outer(p_.samples, false);
    return rows;
  }

  void read_log_pi(const Block<T>& block) {
    gather<T, Scalar>(p_.logits,
                      Offsets<T>(block, p_.logits_rows, p_.components), 0,
                      p_.components, room_.log_pi);
    for (int v = 0; v < kVectors; ++v) {
      const auto weights = log_sum_exp<T>(room_.log_pi, p_.components, v);
      for (int64_t k = 0; k < p_.components; ++k) {
        room_.log_pi[k].v[v] = weights.normalize(room_.log_pi[k].v[v]);
      }
    }
  }

  // log_prob; adds log π_k to the components under kLogSumExp.
  Vector<T> mix(int v) {
    if (p_.mixture == Mixture::kWeighted) return weighted_sum(v);
    for (int64_t k = 0; k < p_.components; ++k) {
      const auto log_pi = room_.log_pi[k].v[v];
      auto& component = room_.component[k].v[v];
      component = select(is_infinite(log_pi), log_pi, component + log_pi);
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
    return select(is_infinite(log_pi), Vector<T>{}, gmm::exponential(log_pi));
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
      for (int v = 0; v < kVectors; ++v) {
        const auto part =
            gmm::component_grad(p_.mixture, weight_of(k, v),
                                room_.component[k].v[v], log_prob->v[v]);
        room_.weight[k].v[v] = grad->v[v] * part.weight;
        room_.log_pi[k].v[v] = grad->v[v] * part.logit;
      }
    }
    if (out.grad_logits) {
      scatter<T, T>(room_.log_pi, p_.components, block, out.grad_logits,
                    p_.components, 0);
    }
  }

  const GmmProblem& p_;
  const BlockRoom<T> room_;
};

template <typename T>
Block<T> block_of_samples(int64_t first, int64_t samples) {
  Block<T> block;
  block.count = static_cast<int>(std::min<int64_t>(samples - first, kBlock<T>));
  for (int lane = 0; lane < kBlock<T>; ++lane) {
    block.sample[lane] = first + std::min(lane, block.count - 1);
  }
  return block;
}

// The pass over samples that share nothing or little. Either pass may be null.
template <typename Scalar, bool kTril>
void run_lanes(const GmmProblem& p, const GmmForward* forward,
               const GmmBackward* backward, const OwnParts& own) {
  using T = Accumulate<Scalar>;
  const int64_t cost = kBlock<T> * p.components * p.features;
  parallel_for(
      divide_up(p.samples, kBlock<T>), std::max<int64_t>(1, kGrain / cost),
      [&](int64_t begin, int64_t end) {
        LanePass<Scalar, kTril> pass(p);
        OwnParameters<Scalar> parameters(p);
        for (int64_t i = begin; i < end; ++i) {
          const auto block = block_of_samples<T>(i * kBlock<T>, p.samples);
          pass.read_x(block);
          parameters.begin(block);
          if (forward) pass.forward(*forward, block, parameters);
          if (!backward) continue;
          if (!forward) pass.read_forward(*backward, block);
          pass.weigh(*backward, block);
          if (own.weights) pass.write_weight(*backward, block);
          if (backward->grad_x || own.mu || own.scale) {
            pass.write_grads(*backward, block, parameters, own);
          }
        }
      });
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
