// Kernels for a standard deviation of each feature, for parameters that are
// broadcast in any way.
#pragma once

#include "gmm/cuda/device.h"

namespace vtadl::gmm {

// log N_k, by a group of `width` lanes; all lanes of the warp have to take
// part.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__device__ T group_log_normal(const GmmProblem& p, int64_t n, int64_t k,
                              bool in_use, int width, const Floor<T>& floor) {
  const int features = static_cast<int>(p.features);
  T log_det = 0, distance = 0;
  if (in_use) {
    const Scalar* x = sample_features<Scalar>(p, n);
    const ComponentParameter<Scalar> mu(p.mu, p.mu.rows.row(n), k);
    const ComponentParameter<Scalar> scale(p.scale, p.scale.rows.row(n), k);
    with_scale_param(p.scale_param, [&](auto param) {
      VTADL_UNROLL_BY(2)
      for (int d = lane_of(width) * kPack; d < features; d += width * kPack) {
        T value[kPack], mean[kPack], raw[kPack];
        load(x + d, value);
        mu.load(d, mean);
        scale.load(d, raw);
        VTADL_UNROLL
        for (int j = 0; j < kPack; ++j) {
          const auto of = activate<decltype(param)::value>(raw[j], floor);
          const T z = (value[j] - mean[j]) * of.inverse_std;
          distance += z * z;
          log_det += of.log_std;
        }
      }
    });
  }
  return log_normal(p.features, warp_sum(log_det, width),
                    warp_sum(distance, width));
}

// log N_k. A group of `width` lanes per run of components of a sample, kPack
// features per lane and round. Reads mu and scale once, 2 U, and x from the
// cache for every component; writes N·K elements. Half of the threads that a
// multiprocessor holds, 32 to 64 bytes under way for each.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlock, kResidentBlocks<Scalar>)
    component_kernel(GmmForward p, int run, int width, Floor<T> floor) {
  const int64_t runs = divide_up(p.components, run);
  const int64_t items = p.samples * runs;
  const GroupStride group(width);
  const int64_t warp_first = group.warp_first(width);
  for (int64_t offset = 0; warp_first + offset < items; offset += group.step) {
    const int64_t item = group.first + offset;
    const int64_t n = item / runs;
    const int64_t first = item % runs * run;
    for (int64_t k = first; k < first + run; ++k) {
      const bool in_use = item < items && k < p.components;
      const T log_normal =
          group_log_normal<Scalar, kPack>(p, n, k, in_use, width, floor);
      if (in_use && lane_of(width) == 0) {
        static_cast<T*>(p.component_log_prob)[n * p.components + k] =
            log_normal;
      }
    }
  }
}

// Where the gradients of private parameters go, or null.
template <typename Scalar>
struct PrivateGrads {
  Scalar* mu;
  Scalar* scale;

  explicit PrivateGrads(const GmmBackward& p)
      : mu(static_cast<Scalar*>(is_private(p, p.mu) ? p.grad_mu : nullptr)),
        scale(static_cast<Scalar*>(is_private(p, p.scale) ? p.grad_scale
                                                          : nullptr)) {}
};

// Of some features of a component that weighs so much: the gradients of its
// parameters, and what is subtracted from that of x.
template <ScaleParam kParam, int kPack, typename T>
__device__ void differentiate_pack(const T (&x)[kPack], const T (&mean)[kPack],
                                   const T (&raw)[kPack], T weight,
                                   const Floor<T>& floor, T (&pull)[kPack],
                                   T (&stretch)[kPack], T (&grad_x)[kPack]) {
  VTADL_UNROLL
  for (int j = 0; j < kPack; ++j) {
    const auto of = activate<kParam>(raw[j], floor);
    const T z = (x[j] - mean[j]) * of.inverse_std;
    pull[j] = weight * z * of.inverse_std;
    stretch[j] = chain<kParam>(weight * (z * z - 1), of);
    grad_x[j] -= pull[j];
  }
}

// Gradients of features d, d + 1, … of x and of private parameters: a thread
// takes one component in blockDim.y. All threads of the block have to take
// part.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__device__ void backward_of_features(const GmmBackward& p,
                                     const PrivateGrads<Scalar>& grads,
                                     int64_t n, int64_t d, bool in_use,
                                     const Floor<T>& floor) {
  const int64_t mu_row = p.mu.rows.row(n), scale_row = p.scale.rows.row(n);
  T x[kPack] = {}, grad_x[kPack] = {};
  if (in_use) load(sample_features<Scalar>(p, n) + d, x);
  // Each weight is on its way before it is asked for: without one there is
  // nothing to read.
  const T* weights = component_weights<T>(p) + n * p.components;
  T next = in_use && threadIdx.y < p.components ? weights[threadIdx.y] : T(0);
  with_scale_param(p.scale_param, [&](auto param) {
    for (int64_t k = threadIdx.y; in_use && k < p.components; k += blockDim.y) {
      const int64_t at = n * p.components + k;
      const T weight = next;
      if (k + blockDim.y < p.components) next = weights[k + blockDim.y];
      T pull[kPack] = {}, stretch[kPack] = {};
      if (weight != 0) {
        T mean[kPack], raw[kPack];
        ComponentParameter<Scalar>(p.mu, mu_row, k).load(d, mean);
        ComponentParameter<Scalar>(p.scale, scale_row, k).load(d, raw);
        differentiate_pack<decltype(param)::value>(x, mean, raw, weight, floor,
                                                   pull, stretch, grad_x);
      }
      if (grads.mu) store(grads.mu + at * p.features + d, pull);
      if (grads.scale) store(grads.scale + at * p.features + d, stretch);
    }
  });
  if (!p.grad_x) return;
  sum_over_y(grad_x, shared_memory<T>());
  if (in_use && threadIdx.y == 0) {
    store(static_cast<T*>(p.grad_x) + n * p.features + d, grad_x);
  }
}

// Gradients of x and of private parameters. A block works on some features of
// z samples at a time: x walks over the features, kPack at a time, y over the
// components. Reads mu and scale, 2 U, and writes their gradients, 2 U; x and
// its gradient stay in registers. Components without weight are not read. Half
// of the threads that a multiprocessor holds.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlock, kResidentBlocks<Scalar>)
    sample_backward_kernel(GmmBackward p, int64_t tiles,
                           PrivateGrads<Scalar> grads, Floor<T> floor) {
  const int64_t items = p.samples * tiles;
  for (int64_t first = int64_t(blockIdx.x) * blockDim.z; first < items;
       first += int64_t(gridDim.x) * blockDim.z) {
    const int64_t item = first + threadIdx.z;
    const int64_t d = (item % tiles * blockDim.x + threadIdx.x) * kPack;
    backward_of_features<Scalar, kPack>(p, grads, item / tiles, d,
                                        item < items && d < p.features, floor);
  }
}

// The gradient of an element of scale, from that with respect to log_std.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ T scale_grad(const GmmProblem& p, int64_t row, int64_t k, int64_t d,
                        T grad, const Floor<T>& floor) {
  T raw[1];
  ComponentParameter<Scalar>(p.scale, row, k).load(d, raw);
  return chain(p.scale_param, grad, activate(p.scale_param, raw[0], floor));
}

// Gradient of parameters of each component of each sample that all its features
// share. A group of `width` lanes per (sample, component): reads what the
// forward pass reads, at most 2 U, and writes N·K elements for each gradient.
// Half of the threads that a multiprocessor holds.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlock, kResidentBlocks<Scalar>)
    feature_sums_kernel(GmmBackward p, int width, Scalar* grad_mu,
                        Scalar* grad_scale, Floor<T> floor) {
  const int64_t items = p.samples * p.components;
  const GroupStride group(width);
  const int lane = lane_of(width);
  const int64_t warp_first = group.warp_first(width);
  for (int64_t offset = 0; warp_first + offset < items; offset += group.step) {
    const int64_t item = group.first + offset;
    const T weight = item < items ? component_weights<T>(p)[item] : T(0);
    T pull = 0, stretch = 0;
    if (weight != 0) {
      const int64_t n = item / p.components, k = item % p.components;
      const Scalar* x = sample_features<Scalar>(p, n);
      const ComponentParameter<Scalar> mu(p.mu, p.mu.rows.row(n), k);
      const ComponentParameter<Scalar> scale(p.scale, p.scale.rows.row(n), k);
      for (int64_t d = lane * kPack; d < p.features; d += width * kPack) {
        T value[kPack], mean[kPack], raw[kPack];
        load(x + d, value);
        mu.load(d, mean);
        scale.load(d, raw);
        ActivatedScale<T> activated[kPack];
        activate(p.scale_param, raw, floor, activated);
        VTADL_UNROLL
        for (int j = 0; j < kPack; ++j) {
          const T z = (value[j] - mean[j]) * activated[j].inverse_std;
          pull += weight * z * activated[j].inverse_std;
          stretch += weight * (z * z - 1);
        }
      }
    }
    pull = warp_sum(pull, width);
    stretch = warp_sum(stretch, width);
    if (item < items && lane == 0) {
      if (grad_mu) grad_mu[item] = static_cast<Scalar>(pull);
      if (grad_scale) {
        const int64_t n = item / p.components, k = item % p.components;
        grad_scale[item] = static_cast<Scalar>(
            scale_grad<Scalar>(p, p.scale.rows.row(n), k, 0, stretch, floor));
      }
    }
  }
}

// A parameter of which samples or components or features share elements, and
// where its gradient and that of another of the same shape go.
struct SharedParameter {
  RowMap rows;
  int64_t components;
  bool mu_is_one, scale_is_one;  // the same for all features
  bool is_whole_mixture;  // what shares one element of both shares the other
  RowMap::Run run;

  SharedParameter(const GmmProblem& p, const GmmParameter& parameter)
      : rows(parameter.rows),
        components(parameter.components),
        mu_is_one(p.mu.size == 1),
        scale_is_one(p.scale.size == 1),
        is_whole_mixture(p.mu.rows == p.scale.rows &&
                         p.mu.components == p.components &&
                         p.scale.components == p.components),
        run(rows.repeat_run()) {}

  // The i-th after `first` of those that read the row.
  __device__ int64_t sample(int64_t row, int64_t first, int64_t i) const {
    return run.length == rows.repeats ? first + i * run.step
                                      : rows.sample(row, i);
  }
};

// Sums over what shares a parameter, for one feature.
template <typename T>
struct ParameterSums {
  T mean, log_std;
};

// `owner`: component of the parameter, which all components share if it has no
// other.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ ParameterSums<T> sum_over_samples(const GmmBackward& p,
                                             const SharedParameter& shared,
                                             int64_t row, int64_t owner,
                                             int64_t d, const Floor<T>& floor) {
  ParameterSums<T> sums{T(0), T(0)};
  if (shared.rows.repeats == 0) return sums;
  T mean[1] = {};
  ActivatedScale<T> scale{};
  const auto load_parameters = [&](int64_t mu_row, int64_t scale_row,
                                   int64_t k) {
    T raw[1];
    ComponentParameter<Scalar>(p.mu, mu_row, k).load(d, mean);
    ComponentParameter<Scalar>(p.scale, scale_row, k).load(d, raw);
    scale = activate(p.scale_param, raw[0], floor);
  };
  const int64_t first = shared.rows.sample(row, 0);
  if (shared.is_whole_mixture) load_parameters(row, row, owner);
  const int64_t components = p.components / shared.components;
  for (int64_t i = threadIdx.y; i < shared.rows.repeats * components;
       i += blockDim.y) {
    const bool is_one = components == 1;
    const int64_t n = shared.sample(row, first, is_one ? i : i / components);
    const int64_t k = is_one ? owner : owner + i % components;
    const T weight = component_weights<T>(p)[n * p.components + k];
    if (weight == 0) continue;
    if (!shared.is_whole_mixture) {
      load_parameters(p.mu.rows.row(n), p.scale.rows.row(n), k);
    }
    const T x = static_cast<T>(sample_features<Scalar>(p, n)[d]);
    const T z = (x - mean[0]) * scale.inverse_std;
    sums.mean += weight * z * scale.inverse_std;
    sums.log_std += weight * (z * z - 1);
  }
  return sums;
}

// Gradients of shared parameters. A block per (row, component) of the
// parameter: x walks over the features, y over the samples. Reads the weights
// once for every 128 features and x once for every component, U elements, and
// the parameters from the cache. Half of the threads that a multiprocessor
// holds. No atomics, so that the result is the same on every run.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void parameter_backward_kernel(GmmBackward p, SharedParameter shared,
                                          Scalar* grad_mu, Scalar* grad_scale,
                                          Floor<T> floor) {
  for (int64_t item = blockIdx.x; item < shared.rows.rows * shared.components;
       item += gridDim.x) {
    const int64_t row = item / shared.components;
    const int64_t owner = item % shared.components;
    const auto of_scale = [&](T sum, int64_t d) {
      return static_cast<Scalar>(
          scale_grad<Scalar>(p, row, owner, d, sum, floor));
    };
    ParameterSums<T> total{T(0), T(0)};
    for (int64_t first = 0; first < p.features; first += blockDim.x) {
      const int64_t d = first + threadIdx.x;
      ParameterSums<T> sums{T(0), T(0)};
      if (d < p.features) {
        sums = sum_over_samples<Scalar>(p, shared, row, owner, d, floor);
      }
      total.mean += sums.mean;
      total.log_std += sums.log_std;
      const bool writes = threadIdx.y == 0 && d < p.features;
      if (grad_mu && !shared.mu_is_one) {
        const T sum = block_sum(sums.mean, false, shared_memory<T>());
        if (writes) grad_mu[item * p.features + d] = static_cast<Scalar>(sum);
      }
      if (grad_scale && !shared.scale_is_one) {
        const T sum = block_sum(sums.log_std, false, shared_memory<T>());
        if (writes) {
          grad_scale[item * p.features + d] = of_scale(sum, d);
        }
      }
    }
    const bool writes = threadIdx.x == 0 && threadIdx.y == 0;
    if (grad_mu && shared.mu_is_one) {
      const T sum = block_sum(total.mean, true, shared_memory<T>());
      if (writes) grad_mu[item] = static_cast<Scalar>(sum);
    }
    if (grad_scale && shared.scale_is_one) {
      const T sum = block_sum(total.log_std, true, shared_memory<T>());
      if (writes) grad_scale[item] = of_scale(sum, 0);
    }
  }
}

// ----------------------------------------------------------------- launchers

// Whether rows of D elements begin at multiples of 16 bytes.
template <typename Scalar>
bool packs(const GmmProblem& p, std::initializer_list<const void*> pointers) {
  return p.features % kPackSize<Scalar> == 0 && aligned(pointers);
}

// Calls body with the number of elements in a pack, as a constant: 1 for
// doubles, whose kernels take nvcc longest.
template <typename Scalar, typename Body>
void dispatch_packs(bool packed, const Body& body) {
  if constexpr (sizeof(Scalar) < sizeof(double)) {
    if (packed) return body(std::integral_constant<int, kPackSize<Scalar>>());
  }
  body(std::integral_constant<int, 1>());
}

// Several, which share what it takes to find a sample, where they leave enough
// for every thread of the device.
inline int components_in_a_run(const GmmProblem& p, int64_t threads) {
  constexpr int64_t kMost = 8;
  const int64_t wanted_threads =
      2 * multiprocessors() *
      device_attribute(cudaDevAttrMaxThreadsPerMultiProcessor);
  return static_cast<int>(
      std::clamp<int64_t>(threads * p.components / wanted_threads, 1, kMost));
}

template <typename Scalar>
void diagonal_components(const GmmForward& p, void* stream) {
  const bool packed = packs<Scalar>(p, {p.x, p.mu.data, p.scale.data});
  dispatch_packs<Scalar>(packed, [&](auto pack) {
    constexpr int kPack = decltype(pack)::value;
    const int width = power_of_two(divide_up(p.features, kPack), kWarp);
    const int run = components_in_a_run(p, p.samples * width);
    const int64_t groups = p.samples * divide_up(p.components, run);
    launch("gmm component_kernel", component_kernel<Scalar, kPack>,
           {grid_size(divide_up(groups * width, kBlock)), kBlock}, stream, p,
           run, width, Floor<Accumulate<Scalar>>(p.min_std));
  });
}

// The block of sample_backward_kernel, and into how many parts it cuts a row.
struct SampleBackwardShape {
  dim3 block;
  int64_t tiles;
};

// Wide tiles, and the components in turn, where the samples alone fill the
// device. Else narrow tiles, no less than 128 bytes, and the components side
// by side.
inline SampleBackwardShape sample_backward_shape(const GmmProblem& p,
                                                 int pack) {
  constexpr int kMinColumns = 8, kMaxColumns = 128;
  const int64_t columns = divide_up(p.features, pack);
  const int64_t wanted_threads =
      2 * multiprocessors() *
      device_attribute(cudaDevAttrMaxThreadsPerMultiProcessor);
  int64_t x = kMaxColumns;
  while (x > kMinColumns &&
         p.samples * divide_up(columns, x) * kBlock < wanted_threads) {
    x /= 2;
  }
  const int64_t tiles = divide_up(columns, x);
  x = divide_up(columns, tiles);
  int y = 1;
  while (y < p.components && x * y * 2 <= kBlock &&
         (x * y < kWarp || p.samples * tiles * x * y < wanted_threads)) {
    y *= 2;
  }
  const auto z = std::min<int64_t>(std::max<int64_t>(kBlock / (x * y), 1), 64);
  return {dim3(x, y, z), tiles};
}

template <typename Scalar>
void sample_backward(const GmmBackward& p, void* stream) {
  using T = Accumulate<Scalar>;
  const PrivateGrads<Scalar> grads(p);
  if (!p.grad_x && !grads.mu && !grads.scale) return;
  const bool packed = packs<Scalar>(
      p, {p.x, p.mu.data, p.scale.data, p.grad_x, grads.mu, grads.scale});
  dispatch_packs<Scalar>(packed, [&](auto pack) {
    constexpr int kPack = decltype(pack)::value;
    const auto shape = sample_backward_shape(p, kPack);
    const dim3 block = shape.block;
    const std::size_t room =
        block.y == 1 ? 0 : sizeof(T) * kPack * block.x * block.y * block.z;
    launch(
        "gmm sample_backward_kernel", sample_backward_kernel<Scalar, kPack>,
        {grid_size(divide_up(p.samples * shape.tiles, block.z)), block, room},
        stream, p, shape.tiles, grads, Floor<T>(p.min_std));
  });
}

// Either gradient may be null.
template <typename Scalar>
void feature_sums(const GmmBackward& p, void* grad_mu, void* grad_scale,
                  void* stream) {
  const bool packed = packs<Scalar>(p, {p.x, p.mu.data, p.scale.data});
  dispatch_packs<Scalar>(packed, [&](auto pack) {
    constexpr int kPack = decltype(pack)::value;
    const int width = power_of_two(divide_up(p.features, kPack), kWarp);
    launch("gmm feature_sums_kernel", feature_sums_kernel<Scalar, kPack>,
           {grid_size(divide_up(p.samples * p.components * width, kBlock)),
            kBlock},
           stream, p, width, static_cast<Scalar*>(grad_mu),
           static_cast<Scalar*>(grad_scale),
           Floor<Accumulate<Scalar>>(p.min_std));
  });
}

// Either gradient may be null.
template <typename Scalar>
void parameter_backward(const GmmBackward& p, const GmmParameter& parameter,
                        void* grad_mu, void* grad_scale, void* stream) {
  using T = Accumulate<Scalar>;
  const int64_t items = parameter.rows.rows * parameter.components;
  if (items == 0) return;
  const int64_t addends =
      parameter.rows.repeats * (p.components / parameter.components);
  constexpr int64_t kAddendsOfThread = 8;
  const int x = power_of_two(p.features, kBlock / 2);
  const int y = power_of_two(divide_up(addends, kAddendsOfThread), kBlock / x);
  const SharedParameter shared(p, parameter);
  launch("gmm parameter_backward_kernel", parameter_backward_kernel<Scalar>,
         {grid_size(items), dim3(x, y), x * y * sizeof(T)}, stream, p, shared,
         static_cast<Scalar*>(grad_mu), static_cast<Scalar*>(grad_scale),
         Floor<T>(p.min_std));
}

}  // namespace vtadl::gmm
