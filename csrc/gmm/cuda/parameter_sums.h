// Gradients of parameters, for a standard deviation of each feature, that
// features, components or samples share in any way.
#pragma once

#include "gmm/cuda/device.h"

namespace vtadl::gmm {

// Sums of gradients over what shares a parameter.
template <typename T>
struct ParameterSums {
  T mean = 0, log_std = 0;

  // Adds a feature of a component, from the gradient with respect to log N_k.
  __device__ void add(T grad, T x, T own_mean, const ActivatedScale<T>& scale) {
    const auto part =
        feature_grad(grad, standardize(x, own_mean, scale.inverse_std));
    mean += part.mean(scale.inverse_std);
    log_std += part.log_std;
  }
};

// Activates features of a component; the arithmetic that follows is compiled
// once for all parametrisations.
template <int kCount, typename T>
__device__ void activate_pack(ScaleParam param, const T (&raw)[kCount],
                              const Floor<T>& floor,
                              ActivatedScale<T> (&scale)[kCount]) {
  with_scale_param(param, [&](auto known) {
    VTADL_UNROLL
    for (int j = 0; j < kCount; ++j) {
      scale[j] = activate<decltype(known)::value>(raw[j], floor);
    }
  });
}

// The gradient of an element of scale, from that with respect to log_std.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ T scale_grad(const GmmProblem& p, int64_t row, int64_t k, int64_t d,
                        T grad, const Floor<T>& floor) {
  T raw[1];
  ComponentParameter<Scalar>(p.scale, row, k).load(d, raw);
  return chain(p.scale_param, grad, activate(p.scale_param, raw[0], floor));
}

// The kernel writes the gradients of parameters that all features of a
// component of a sample share. A group of `width` lanes per (sample, component)
// reads what the forward pass reads, at most 2 U, and writes N·K elements for
// each gradient. Half of the threads that a multiprocessor holds are resident.
template <typename Scalar, int kPack, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm<Scalar>)
    feature_sums_kernel(GmmBackward p, int width, Scalar* grad_mu,
                        Scalar* grad_scale, Floor<T> floor) {
  const int64_t items = p.samples * p.components;
  const int lane = lane_of(width);
  for_each_item(items, width, [&](int64_t item, bool in_use) {
    const T grad = in_use ? log_normal_grads<T>(p)[item] : T(0);
    ParameterSums<T> sums;
    if (grad != 0) {
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
        activate_pack(p.scale_param, raw, floor, activated);
        VTADL_UNROLL
        for (int j = 0; j < kPack; ++j) {
          sums.add(grad, value[j], mean[j], activated[j]);
        }
      }
    }
    sums.mean = warp_sum(sums.mean, width);
    sums.log_std = warp_sum(sums.log_std, width);
    if (!in_use || lane != 0) return;
    if (grad_mu) grad_mu[item] = static_cast<Scalar>(sums.mean);
    if (grad_scale) {
      const int64_t n = item / p.components, k = item % p.components;
      grad_scale[item] = static_cast<Scalar>(scale_grad<Scalar>(
          p, p.scale.rows.row(n), k, 0, sums.log_std, floor));
    }
  });
}

// A parameter of which samples or components or features share elements.
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

  // The i-th sample after `first` that reads the row.
  __device__ int64_t sample(int64_t row, int64_t first, int64_t i) const {
    return run.length == rows.repeats ? first + i * run.step
                                      : rows.sample(row, i);
  }
};

// The sums for feature d, by the threads of the block's y. `owner` is the
// component of the parameter; all components share it if it has no other.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ ParameterSums<T> sum_over_samples(const GmmBackward& p,
                                             const SharedParameter& shared,
                                             int64_t row, int64_t owner,
                                             int64_t d, const Floor<T>& floor) {
  ParameterSums<T> sums;
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
    const T grad = log_normal_grads<T>(p)[n * p.components + k];
    if (grad == 0) continue;
    if (!shared.is_whole_mixture) {
      load_parameters(p.mu.rows.row(n), p.scale.rows.row(n), k);
    }
    const T x = static_cast<T>(sample_features<Scalar>(p, n)[d]);
    sums.add(grad, x, mean[0], scale);
  }
  return sums;
}

// The kernel writes the gradients of shared parameters. A block serves one
// (row, component) of the parameter: x walks over the features, y over the
// samples. The kernel reads the gradients with respect to log N_k once for
// every 128 features and x once for every component, U elements, and the
// parameters from the cache. Half of the threads that a multiprocessor holds
// are resident. There are no atomics, so that the result is the same on every
// run.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void sample_sums_kernel(GmmBackward p, SharedParameter shared,
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
    ParameterSums<T> total;
    for (int64_t first = 0; first < p.features; first += blockDim.x) {
      const int64_t d = first + threadIdx.x;
      ParameterSums<T> sums;
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

template <typename Scalar>
void feature_sums(const GmmBackward& p, const SummedGrads& grads,
                  void* stream) {
  const bool packed = packs<Scalar>(p, {p.x, p.mu.data, p.scale.data});
  dispatch_packs<Scalar>(packed, [&](auto pack) {
    constexpr int kPack = decltype(pack)::value;
    const GroupShape shape(p.samples * p.components, feature_width(p, kPack));
    launch("gmm feature_sums_kernel", feature_sums_kernel<Scalar, kPack>,
           shape.launch, stream, p, shape.width,
           static_cast<Scalar*>(grads.grad_mu),
           static_cast<Scalar*>(grads.grad_scale),
           Floor<Accumulate<Scalar>>(p.min_std));
  });
}

template <typename Scalar>
void sample_sums(const GmmBackward& p, const SummedGrads& grads, void* stream) {
  using T = Accumulate<Scalar>;
  launch("gmm sample_sums_kernel", sample_sums_kernel<Scalar>,
         sample_sums_shape<T>(p, grads.parameter), stream, p,
         SharedParameter(p, grads.parameter),
         static_cast<Scalar*>(grads.grad_mu),
         static_cast<Scalar*>(grads.grad_scale), Floor<T>(p.min_std));
}

}  // namespace vtadl::gmm
