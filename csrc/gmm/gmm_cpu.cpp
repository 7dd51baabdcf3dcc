// Mixture likelihood on the CPU. Compiled once per instruction set.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "common/integers.h"
#include "common/parallel.h"
#include "gmm/gmm.h"
#include "gmm/gmm_math.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

constexpr int64_t kTileSize = 2048;     // parameters that stay in L1
constexpr int64_t kTileFeatures = 512;  // at most, of one component
constexpr int64_t kBlock = 16;          // samples that share a loaded tile
constexpr int64_t kFlush = 256;         // terms of one float sum
constexpr int64_t kGrain = 32768;       // elements worth a thread

// Components [k, k + components) and features [d, d + features).
struct Range {
  int64_t k, components, d, features;
};

int64_t tile_features(const GmmProblem& p) {
  return std::min(p.features, kTileFeatures);
}

int64_t tile_components(const GmmProblem& p) {
  return std::min(p.components, kTileSize / tile_features(p));
}

template <typename Body>
void for_each_tile_of_components(const GmmProblem& p, const Body& body) {
  const int64_t step = tile_components(p);
  for (int64_t k = 0; k < p.components; k += step) {
    body(k, std::min(step, p.components - k));
  }
}

template <typename Body>
void for_each_tile_of_features(const GmmProblem& p, const Body& body) {
  const int64_t step = tile_features(p);
  for (int64_t d = 0; d < p.features; d += step) {
    body(d, std::min(step, p.features - d));
  }
}

template <typename Body>
void for_each_range(const GmmProblem& p, const Body& body) {
  for_each_tile_of_features(p, [&](int64_t d, int64_t features) {
    for_each_tile_of_components(p, [&](int64_t k, int64_t components) {
      body(Range{k, components, d, features});
    });
  });
}

// Activated parameters of a range, one for each component and feature.
template <typename Scalar, ScaleParam kParam>
class Tile {
 public:
  using T = Accumulate<Scalar>;

  explicit Tile(const GmmProblem& problem)
      : p_(problem), floor_(problem.min_std) {}

  void set_range(const Range& range) {
    range_ = range;
    mu_row_ = scale_row_ = -1;
  }

  // Makes the tile hold what `sample` reads; nothing to do where it does.
  void load_for(int64_t sample) {
    const int64_t mu_row = p_.mu_rows.row(sample);
    const int64_t scale_row = p_.scale_rows.row(sample);
    if (mu_row != mu_row_) load_mu(mu_row);
    if (scale_row != scale_row_) load_scale(scale_row);
  }

  const Range& range() const { return range_; }

  alignas(64) T mean[kTileSize];
  alignas(64) T inverse_std[kTileSize];
  alignas(64) T slope[kTileSize];
  T log_det[kTileSize];  // Σ_d log_std of each component

 private:
  void load_mu(int64_t row) {
    mu_row_ = row;
    const Scalar* from = source(p_.mu, row, p_.mu_features);
    for (int64_t k = 0; k < range_.components; ++k) {
      T* to = mean + k * range_.features;
      if (p_.mu_features == 1) {
        std::fill_n(to, range_.features, static_cast<T>(from[k]));
        continue;
      }
      const Scalar* component = from + k * p_.features;
      for (int64_t d = 0; d < range_.features; ++d) {
        to[d] = static_cast<T>(component[d]);
      }
    }
  }

  void load_scale(int64_t row) {
    scale_row_ = row;
    const Scalar* from = source(p_.scale, row, p_.scale_features);
    for (int64_t k = 0; k < range_.components; ++k) {
      const int64_t at = k * range_.features;
      if (p_.scale_features == 1) {
        const auto scale =
            gmm::activate<kParam>(static_cast<T>(from[k]), floor_);
        std::fill_n(inverse_std + at, range_.features, scale.inverse_std);
        std::fill_n(slope + at, range_.features, scale.slope);
        log_det[k] = scale.log_std * static_cast<T>(range_.features);
      } else {
        log_det[k] = activate_row(from + k * p_.features, at);
      }
    }
  }

  T activate_row(const Scalar* from, int64_t at) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < range_.features; ++d) {
      const auto scale = gmm::activate<kParam>(static_cast<T>(from[d]), floor_);
      inverse_std[at + d] = scale.inverse_std;
      slope[at + d] = scale.slope;
      sum += scale.log_std;
    }
    return sum;
  }

  const Scalar* source(const void* base, int64_t row, int64_t features) const {
    const int64_t d = features == 1 ? 0 : range_.d;
    return static_cast<const Scalar*>(base) +
           (row * p_.components + range_.k) * features + d;
  }

  const GmmProblem& p_;
  const gmm::Floor<T> floor_;
  Range range_{};
  int64_t mu_row_ = -1, scale_row_ = -1;
};

// Features of one sample as T: in place, or converted into `room`.
template <typename Scalar, typename T = Accumulate<Scalar>>
const T* features_of(const GmmProblem& p, int64_t sample, const Range& range,
                     T* room) {
  const Scalar* x = static_cast<const Scalar*>(p.x) +
                    p.x_rows.row(sample) * p.features + range.d;
  if constexpr (std::is_same_v<Scalar, T>) {
    return x;
  } else {
    for (int64_t d = 0; d < range.features; ++d) room[d] = static_cast<T>(x[d]);
    return room;
  }
}

// Samples in an order in which those that share parameters are neighbours.
int64_t ordered_sample(const GmmProblem& p, int64_t index) {
  return p.mu_rows.sample(index / p.mu_rows.repeats, index % p.mu_rows.repeats);
}

// Calls body(first, last) for blocks of ordered samples, in parallel.
template <typename Body>
void parallel_for_blocks(const GmmProblem& p, const Body& body) {
  const int64_t block_cost = kBlock * p.components * p.features;
  parallel_for(
      divide_up(p.samples, kBlock), std::max<int64_t>(1, kGrain / block_cost),
      [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block) {
          body(block * kBlock, std::min((block + 1) * kBlock, p.samples));
        }
      });
}

template <typename Scalar, typename T = Accumulate<Scalar>>
gmm::LogSumExp<T> log_sum_exp(const Scalar* values, int64_t count) {
  T maximum = -static_cast<T>(INFINITY);
  for (int64_t i = 0; i < count; ++i) {
    maximum = std::max(maximum, static_cast<T>(values[i]));
  }
  const T shift = gmm::log_sum_exp_shift(maximum);
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) {
    sum += gmm::exponential(static_cast<T>(values[i]) - shift);
  }
  return {shift, std::log(sum)};
}

// ---------------------------------------------------------------- forward

template <typename T>
T squared_distance(const T* x, const T* mean, const T* inverse_std,
                   int64_t features) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t d = 0; d < features; ++d) {
    const T z = (x[d] - mean[d]) * inverse_std[d];
    sum += z * z;
  }
  return sum;
}

// Adds the tile's share to log N_k of one sample.
template <typename Scalar, ScaleParam kParam, typename T = Accumulate<Scalar>>
void add_log_normal(const GmmProblem& p, const Tile<Scalar, kParam>& tile,
                    int64_t sample, T* component_log_prob) {
  const Range& range = tile.range();
  T room[kTileFeatures];
  const T* x = features_of<Scalar>(p, sample, range, room);
  const T constant = T(-0.5 * gmm::kLog2Pi) * static_cast<T>(range.features);
  T* out = component_log_prob + sample * p.components + range.k;
  for (int64_t k = 0; k < range.components; ++k) {
    const int64_t at = k * range.features;
    const T distance = squared_distance(x, tile.mean + at,
                                        tile.inverse_std + at, range.features);
    const T share = constant - tile.log_det[k] - T(0.5) * distance;
    out[k] = range.d == 0 ? share : out[k] + share;
  }
}

// log_prob of one sample; adds log π_k to its components under kLogSumExp.
template <typename Scalar, typename T = Accumulate<Scalar>>
T mix(const GmmProblem& p, const Scalar* logits, T* component) {
  const auto weights = log_sum_exp(logits, p.components);
  if (p.mixture == Mixture::kWeighted) {
    if (std::isinf(weights.log_sum)) return weights.log_sum;  // all masked
    T sum = 0;
    for (int64_t k = 0; k < p.components; ++k) {
      const T pi = weights.share(static_cast<T>(logits[k]));
      sum += pi == 0 ? T(0) : pi * component[k];
    }
    return sum;
  }
  for (int64_t k = 0; k < p.components; ++k) {
    const T log_pi = weights.normalize(static_cast<T>(logits[k]));
    component[k] = std::isinf(log_pi) ? log_pi : component[k] + log_pi;
  }
  return log_sum_exp(component, p.components).total();
}

template <typename Scalar, ScaleParam kParam>
void forward(const GmmForward& p) {
  using T = Accumulate<Scalar>;
  T* component = static_cast<T*>(p.component_log_prob);
  T* log_prob = static_cast<T*>(p.log_prob);
  const Scalar* logits = static_cast<const Scalar*>(p.logits);

  parallel_for_blocks(p, [&](int64_t first, int64_t last) {
    Tile<Scalar, kParam> tile(p);
    for_each_range(p, [&](const Range& range) {
      tile.set_range(range);
      for (int64_t i = first; i < last; ++i) {
        const int64_t n = ordered_sample(p, i);
        tile.load_for(n);
        add_log_normal<Scalar>(p, tile, n, component);
      }
    });
    for (int64_t i = first; i < last; ++i) {
      const int64_t n = ordered_sample(p, i);
      log_prob[n] = mix(p, logits + p.logits_rows.row(n) * p.components,
                        component + n * p.components);
    }
  });
}

// --------------------------------------------------------------- backward

// The weight of each component in the gradients, and the logits' gradient.
template <typename Scalar, typename T = Accumulate<Scalar>>
void weigh_components(const GmmBackward& p, int64_t n) {
  const int64_t at = n * p.components;
  const T grad = static_cast<const T*>(p.grad)[n];
  const T log_prob = static_cast<const T*>(p.log_prob)[n];
  const T* component = static_cast<const T*>(p.component_log_prob) + at;
  const Scalar* logits = static_cast<const Scalar*>(p.logits) +
                         p.logits_rows.row(n) * p.components;
  const auto weights = log_sum_exp(logits, p.components);
  T* weight = static_cast<T*>(p.weight) + at;
  T* grad_logits =
      p.grad_logits ? static_cast<T*>(p.grad_logits) + at : nullptr;
  for (int64_t k = 0; k < p.components; ++k) {
    const T pi = weights.share(static_cast<T>(logits[k]));
    const auto part =
        gmm::component_grad(p.mixture, pi, component[k], log_prob);
    weight[k] = grad * part.weight;
    if (grad_logits) grad_logits[k] = grad * part.logit;
  }
}

// Sums over samples of the gradients with respect to one tile's mean and
// log_std, one for each component and feature.
template <typename T>
struct TileGrad {
  alignas(64) T mean[kTileSize];
  alignas(64) T log_std[kTileSize];

  void clear(int64_t size) {
    std::fill_n(mean, size, T(0));
    std::fill_n(log_std, size, T(0));
  }

  // Sums of sums keep the rounding error of many terms small.
  void flush_into(TileGrad& total, int64_t size) {
    for (int64_t i = 0; i < size; ++i) {
      total.mean[i] += mean[i];
      total.log_std[i] += log_std[i];
    }
    clear(size);
  }
};

// Gradients of one sample and component: added to those of the parameters and
// of x where they are asked for.
template <bool kParameters, bool kX, typename T>
void add_component_grad(const T* x, const T* mean, const T* inverse_std,
                        T weight, int64_t features, T* grad_mean,
                        T* grad_log_std, T* grad_x) {
#pragma omp simd
  for (int64_t d = 0; d < features; ++d) {
    const T z = (x[d] - mean[d]) * inverse_std[d];
    const T pull = weight * z * inverse_std[d];
    if constexpr (kParameters) {
      grad_mean[d] += pull;
      grad_log_std[d] += weight * (z * z - 1);
    }
    if constexpr (kX) grad_x[d] -= pull;
  }
}

template <bool kParameters, bool kX, typename Scalar, ScaleParam kParam,
          typename T = Accumulate<Scalar>>
void add_sample_grad(const GmmBackward& p, const Tile<Scalar, kParam>& tile,
                     int64_t sample, TileGrad<T>& grad, T* grad_x) {
  const Range& range = tile.range();
  T room[kTileFeatures];
  const T* x = features_of<Scalar>(p, sample, range, room);
  const T* weight =
      static_cast<const T*>(p.weight) + sample * p.components + range.k;
  for (int64_t k = 0; k < range.components; ++k) {
    // Also keeps what a masked component holds, NaN say, out of the sums.
    if (weight[k] == 0) continue;
    const int64_t at = k * range.features;
    add_component_grad<kParameters, kX>(
        x, tile.mean + at, tile.inverse_std + at, weight[k], range.features,
        grad.mean + at, grad.log_std + at, grad_x);
  }
}

// Where the gradient of mu or scale goes, one tile of features after another.
template <typename Scalar>
class ParameterGrad {
 public:
  using T = Accumulate<Scalar>;

  ParameterGrad(const GmmProblem& problem, int64_t features, void* base)
      : p_(problem),
        features_(features),
        one_for_all_(features < problem.features),
        base_(static_cast<Scalar*>(base)) {}

  void begin(int64_t components) { std::fill_n(sums_, components, T(0)); }

  // `slope`: derivative of what was summed by the parameter; null for 1.
  void add(const Range& range, int64_t row, const T* grad, const T* slope) {
    if (base_ == nullptr) return;
    for (int64_t k = 0; k < range.components; ++k) {
      const int64_t at = k * range.features;
      const T* component_slope = slope ? slope + at : nullptr;
      if (one_for_all_) {
        sums_[k] += sum(grad + at, component_slope, range.features);
      } else {
        store(
            grad + at, component_slope, range.features,
            base_ + (row * p_.components + range.k + k) * features_ + range.d);
      }
    }
  }

  void end(int64_t row, int64_t first_component, int64_t components) {
    if (base_ == nullptr || !one_for_all_) return;
    Scalar* out = base_ + row * p_.components + first_component;
    for (int64_t k = 0; k < components; ++k)
      out[k] = static_cast<Scalar>(sums_[k]);
  }

 private:
  // The slope at a std too small to invert is infinite.
  static T chain(T grad, T slope) { return grad == 0 ? T(0) : grad * slope; }

  static T sum(const T* grad, const T* slope, int64_t features) {
    T result = 0;
#pragma omp simd reduction(+ : result)
    for (int64_t d = 0; d < features; ++d) result += grad[d];
    return slope ? chain(result, slope[0]) : result;
  }

  static void store(const T* grad, const T* slope, int64_t features,
                    Scalar* out) {
    for (int64_t d = 0; d < features; ++d) {
      out[d] = static_cast<Scalar>(slope ? chain(grad[d], slope[d]) : grad[d]);
    }
  }

  const GmmProblem& p_;
  const int64_t features_;
  const bool one_for_all_;  // features
  Scalar* const base_;
  T sums_[kTileSize];
};

// Gradient of x; with kParameters also those of mu and scale, for parameters
// that no two samples and no two features share: one pass over them serves all.
template <bool kParameters, bool kX, typename Scalar, ScaleParam kParam>
void sample_backward(const GmmBackward& p) {
  using T = Accumulate<Scalar>;
  parallel_for_blocks(p, [&](int64_t first, int64_t last) {
    Tile<Scalar, kParam> tile(p);
    TileGrad<T> grad;
    ParameterGrad<Scalar> grad_mu(p, p.features, p.grad_mu);
    ParameterGrad<Scalar> grad_scale(p, p.features, p.grad_scale);
    alignas(64) T grad_x[kBlock][kTileFeatures];
    for_each_tile_of_features(p, [&](int64_t d, int64_t features) {
      for (auto& row : grad_x) std::fill_n(row, features, T(0));
      for_each_tile_of_components(p, [&](int64_t k, int64_t components) {
        tile.set_range({k, components, d, features});
        for (int64_t i = first; i < last; ++i) {
          const int64_t n = ordered_sample(p, i);
          tile.load_for(n);
          if (kParameters) grad.clear(components * features);
          add_sample_grad<kParameters, kX>(p, tile, n, grad, grad_x[i - first]);
          if (kParameters) {
            grad_mu.add(tile.range(), n, grad.mean, nullptr);
            grad_scale.add(tile.range(), n, grad.log_std, tile.slope);
          }
        }
      });
      if (!kX) return;
      for (int64_t i = first; i < last; ++i) {
        std::copy_n(
            grad_x[i - first], features,
            static_cast<T*>(p.grad_x) + ordered_sample(p, i) * p.features + d);
      }
    });
  });
}

// What all samples that read `row` add to the gradients of the tile.
template <typename Scalar, ScaleParam kParam, typename T = Accumulate<Scalar>>
void sum_over_samples(const GmmBackward& p, const RowMap& rows, int64_t row,
                      Tile<Scalar, kParam>& tile, TileGrad<T>& grad,
                      TileGrad<T>& part) {
  const int64_t size = tile.range().components * tile.range().features;
  grad.clear(size);
  part.clear(size);
  for (int64_t repeat = 0; repeat < rows.repeats; ++repeat) {
    const int64_t n = rows.sample(row, repeat);
    tile.load_for(n);
    add_sample_grad<true, false>(p, tile, n, part, static_cast<T*>(nullptr));
    if (repeat % kFlush == kFlush - 1) part.flush_into(grad, size);
  }
  part.flush_into(grad, size);
}

// Gradients of the parameters that `rows` maps to, summed in the same order
// whatever the number of threads.
template <typename Scalar, ScaleParam kParam>
void parameter_backward(const GmmBackward& p, const RowMap& rows, void* mu,
                        void* scale) {
  using T = Accumulate<Scalar>;
  const int64_t step = tile_components(p);
  const int64_t tiles = divide_up(p.components, step);
  const int64_t cost = (rows.repeats + 1) * step * p.features;
  parallel_for(
      rows.rows * tiles, std::max<int64_t>(1, kGrain / cost),
      [&](int64_t begin, int64_t end) {
        Tile<Scalar, kParam> tile(p);
        TileGrad<T> grad, part;
        ParameterGrad<Scalar> grad_mu(p, p.mu_features, mu);
        ParameterGrad<Scalar> grad_scale(p, p.scale_features, scale);
        for (int64_t i = begin; i < end; ++i) {
          const int64_t row = i / tiles, k = i % tiles * step;
          const int64_t components = std::min(step, p.components - k);
          grad_mu.begin(components);
          grad_scale.begin(components);
          for_each_tile_of_features(p, [&](int64_t d, int64_t features) {
            tile.set_range({k, components, d, features});
            sum_over_samples(p, rows, row, tile, grad, part);
            grad_mu.add(tile.range(), row, grad.mean, nullptr);
            grad_scale.add(tile.range(), row, grad.log_std, tile.slope);
          });
          grad_mu.end(row, k, components);
          grad_scale.end(row, k, components);
        }
      });
}

template <typename Scalar, ScaleParam kParam>
void backward(const GmmBackward& p) {
  parallel_for(p.samples, std::max<int64_t>(1, kGrain / (8 * p.components)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t n = begin; n < end; ++n) {
                   weigh_components<Scalar>(p, n);
                 }
               });
  const bool parameters = p.grad_mu || p.grad_scale;
  if (parameters && p.mu_rows.repeats == 1 && p.scale_rows.repeats == 1 &&
      p.mu_features == p.features && p.scale_features == p.features) {
    return p.grad_x ? sample_backward<true, true, Scalar, kParam>(p)
                    : sample_backward<true, false, Scalar, kParam>(p);
  }
  if (p.grad_x) sample_backward<false, true, Scalar, kParam>(p);
  if (parameters && p.mu_rows == p.scale_rows) {
    return parameter_backward<Scalar, kParam>(p, p.mu_rows, p.grad_mu,
                                              p.grad_scale);
  }
  if (p.grad_mu) {
    parameter_backward<Scalar, kParam>(p, p.mu_rows, p.grad_mu, nullptr);
  }
  if (p.grad_scale) {
    parameter_backward<Scalar, kParam>(p, p.scale_rows, nullptr, p.grad_scale);
  }
}

void forward(const GmmForward& p) {
  gmm::dispatch(p, [&](auto zero, auto param) {
    forward<decltype(zero), decltype(param)::value>(p);
  });
}

void backward(const GmmBackward& p) {
  gmm::dispatch(p, [&](auto zero, auto param) {
    backward<decltype(zero), decltype(param)::value>(p);
  });
}

}  // namespace

extern const GmmCpuKernels gmm_cpu_kernels = {&forward, &backward};

}  // namespace vtadl::VTADL_CPU_CAPABILITY
