// Mixture likelihood on the GPU.
#include <algorithm>
#include <cmath>

#include "common/launch.h"
#include "gmm/gmm.h"
#include "gmm/gmm_math.h"

namespace vtadl {
namespace {

using std::int64_t;

constexpr int kWarp = 32;
constexpr int kBlock = 256;
constexpr unsigned kFullMask = 0xffffffffu;
constexpr int64_t kMaxBlocks = 1 << 30;

// ------------------------------------------------------------ device helpers

template <typename T>
__device__ T warp_sum(T value, int width = kWarp) {
  for (int offset = width / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kFullMask, value, offset);
  }
  return value;
}

template <typename T>
__device__ T warp_max(T value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kFullMask, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ gmm::LogSumExp<T> warp_log_sum_exp(const Scalar* values,
                                              int64_t count) {
  const int lane = threadIdx.x % kWarp;
  T maximum = -static_cast<T>(INFINITY);
  for (int64_t i = lane; i < count; i += kWarp) {
    const T value = static_cast<T>(values[i]);
    maximum = value > maximum ? value : maximum;
  }
  const T shift = gmm::log_sum_exp_shift(warp_max(maximum));
  T sum = 0;
  for (int64_t i = lane; i < count; i += kWarp) {
    sum += gmm::exponential(static_cast<T>(values[i]) - shift);
  }
  return {shift, std::log(warp_sum(sum))};
}

// Parameters of one component of one mixture.
template <typename Scalar>
struct Component {
  using T = Accumulate<Scalar>;

  __device__ Component(const GmmProblem& p, int64_t sample, int64_t k)
      : mu_(row(p.mu, p.mu_rows.row(sample), p.components, k, p.mu_features)),
        scale_(row(p.scale, p.scale_rows.row(sample), p.components, k,
                   p.scale_features)),
        mu_step_(p.mu_features > 1),
        scale_step_(p.scale_features > 1),
        param_(p.scale_param) {}

  __device__ T mean(int64_t d) const {
    return static_cast<T>(mu_[d * mu_step_]);
  }

  __device__ gmm::Scale<T> scale(int64_t d, const gmm::Floor<T>& floor) const {
    return gmm::activate(param_, static_cast<T>(scale_[d * scale_step_]),
                         floor);
  }

 private:
  __device__ static const Scalar* row(const void* base, int64_t row,
                                      int64_t components, int64_t k,
                                      int64_t features) {
    return static_cast<const Scalar*>(base) + (row * components + k) * features;
  }

  const Scalar* mu_;
  const Scalar* scale_;
  const int64_t mu_step_, scale_step_;
  const ScaleParam param_;
};

template <typename Scalar>
__device__ const Scalar* sample_features(const GmmProblem& p, int64_t sample) {
  return static_cast<const Scalar*>(p.x) + p.x_rows.row(sample) * p.features;
}

// The first item of this group of `width` threads, and the stride to its next.
struct GroupStride {
  int64_t first, step;

  __device__ explicit GroupStride(int width)
      : first((blockIdx.x * int64_t(blockDim.x) + threadIdx.x) / width),
        step(int64_t(gridDim.x) * blockDim.x / width) {}
};

// ------------------------------------------------------------------- kernels

// log N_k. A group of `width` lanes per (sample, component); all lanes of a
// warp make the same number of rounds, so that all take part in the shuffles.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void component_kernel(GmmForward p, int width, gmm::Floor<T> floor) {
  const int64_t items = p.samples * p.components;
  const GroupStride group(width);
  const int lane = threadIdx.x % width;
  const int64_t warp_first = group.first - threadIdx.x % kWarp / width;
  for (int64_t offset = 0; warp_first + offset < items; offset += group.step) {
    const int64_t item = group.first + offset;
    T log_det = 0, distance = 0;
    if (item < items) {
      const int64_t n = item / p.components;
      const Component<Scalar> component(p, n, item % p.components);
      const Scalar* x = sample_features<Scalar>(p, n);
      for (int64_t d = lane; d < p.features; d += width) {
        const auto scale = component.scale(d, floor);
        const T z =
            (static_cast<T>(x[d]) - component.mean(d)) * scale.inverse_std;
        distance += z * z;
        log_det += scale.log_std;
      }
    }
    const T log_normal = T(-0.5 * gmm::kLog2Pi) * static_cast<T>(p.features) -
                         warp_sum(log_det, width) -
                         T(0.5) * warp_sum(distance, width);
    if (item < items && lane == 0) {
      static_cast<T*>(p.component_log_prob)[item] = log_normal;
    }
  }
}

// log_prob. A warp per sample.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void mix_kernel(GmmForward p) {
  const GroupStride warp(kWarp);
  const int lane = threadIdx.x % kWarp;
  for (int64_t n = warp.first; n < p.samples; n += warp.step) {
    const Scalar* logits = static_cast<const Scalar*>(p.logits) +
                           p.logits_rows.row(n) * p.components;
    T* component = static_cast<T*>(p.component_log_prob) + n * p.components;
    const auto weights = warp_log_sum_exp(logits, p.components);
    T sum = 0;
    for (int64_t k = lane; k < p.components; k += kWarp) {
      const T logit = static_cast<T>(logits[k]);
      if (p.mixture == Mixture::kWeighted) {
        const T pi = weights.share(logit);
        sum += pi == 0 ? T(0) : pi * component[k];
      } else {
        const T log_pi = weights.normalize(logit);
        component[k] = std::isinf(log_pi) ? log_pi : component[k] + log_pi;
      }
    }
    T log_prob = warp_sum(sum);
    if (p.mixture == Mixture::kLogSumExp) {
      // Each lane reads back only what it wrote itself.
      log_prob = warp_log_sum_exp(component, p.components).total();
    } else if (std::isinf(weights.log_sum)) {
      log_prob = weights.log_sum;  // all masked
    }
    if (lane == 0) static_cast<T*>(p.log_prob)[n] = log_prob;
  }
}

// The weight of each component in the gradients, and the logits' gradient. A
// warp per sample.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void weigh_kernel(GmmBackward p) {
  const GroupStride warp(kWarp);
  for (int64_t n = warp.first; n < p.samples; n += warp.step) {
    const Scalar* logits = static_cast<const Scalar*>(p.logits) +
                           p.logits_rows.row(n) * p.components;
    const auto weights = warp_log_sum_exp(logits, p.components);
    const T grad = static_cast<const T*>(p.grad)[n];
    const T log_prob = static_cast<const T*>(p.log_prob)[n];
    for (int64_t k = threadIdx.x % kWarp; k < p.components; k += kWarp) {
      const int64_t i = n * p.components + k;
      const T pi = weights.share(static_cast<T>(logits[k]));
      const auto part = gmm::component_grad(
          p.mixture, pi, static_cast<const T*>(p.component_log_prob)[i],
          log_prob);
      static_cast<T*>(p.weight)[i] = grad * part.weight;
      if (p.grad_logits) static_cast<T*>(p.grad_logits)[i] = grad * part.logit;
    }
  }
}

// Gradient of x. A thread per (sample, feature) walks over the components, so
// that neighbouring threads read neighbouring parameters.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void x_backward_kernel(GmmBackward p, gmm::Floor<T> floor) {
  const GroupStride thread(1);
  for (int64_t i = thread.first; i < p.samples * p.features; i += thread.step) {
    const int64_t n = i / p.features, d = i % p.features;
    const T x = static_cast<T>(sample_features<Scalar>(p, n)[d]);
    T sum = 0;
    for (int64_t k = 0; k < p.components; ++k) {
      const T weight = static_cast<const T*>(p.weight)[n * p.components + k];
      if (weight == 0) continue;
      const Component<Scalar> component(p, n, k);
      const T inverse_std = component.scale(d, floor).inverse_std;
      sum -= weight * ((x - component.mean(d)) * inverse_std) * inverse_std;
    }
    static_cast<T*>(p.grad_x)[i] = sum;
  }
}

// Sums over the samples that share a parameter, for one component and feature.
template <typename T>
struct ParameterSums {
  T mean, raw_scale;
};

template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ ParameterSums<T> sum_over_samples(const GmmBackward& p,
                                             const RowMap& rows, int64_t row,
                                             int64_t k, int64_t d,
                                             const gmm::Floor<T>& floor) {
  ParameterSums<T> sums{T(0), T(0)};
  for (int64_t repeat = threadIdx.y; repeat < rows.repeats;
       repeat += blockDim.y) {
    const int64_t n = rows.sample(row, repeat);
    const T weight = static_cast<const T*>(p.weight)[n * p.components + k];
    if (weight == 0) continue;
    const Component<Scalar> component(p, n, k);
    const auto scale = component.scale(d, floor);
    const T z =
        (static_cast<T>(sample_features<Scalar>(p, n)[d]) - component.mean(d)) *
        scale.inverse_std;
    sums.mean += weight * z * scale.inverse_std;
    sums.raw_scale += weight * (z * z - 1) * scale.slope;
  }
  return sums;
}

// Sum of `value` over the block's y, in a fixed order, for the threads with
// threadIdx.y == 0; over x as well where `all`.
template <typename T>
__device__ T block_sum(T value, bool all) {
  T* room = shared_memory<T>();
  __syncthreads();
  room[threadIdx.y * blockDim.x + threadIdx.x] = value;
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) {
      room[threadIdx.y * blockDim.x + threadIdx.x] +=
          room[(threadIdx.y + half) * blockDim.x + threadIdx.x];
    }
  }
  for (unsigned half = all ? blockDim.x / 2 : 0; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y == 0 && threadIdx.x < half) {
      room[threadIdx.x] += room[threadIdx.x + half];
    }
  }
  __syncthreads();
  return room[threadIdx.x];
}

// Gradients of the parameters that `rows` maps to. A block per (row,
// component): x walks over the features, y over the samples; both are powers
// of two. No atomics, so that the result is the same on every run.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void parameter_backward_kernel(GmmBackward p, RowMap rows,
                                          void* grad_mu, void* grad_scale,
                                          gmm::Floor<T> floor) {
  const int64_t features = p.features;
  for (int64_t item = blockIdx.x; item < rows.rows * p.components;
       item += gridDim.x) {
    ParameterSums<T> shared{T(0), T(0)};
    for (int64_t first = 0; first < features; first += blockDim.x) {
      const int64_t d = first + threadIdx.x;
      ParameterSums<T> sums{T(0), T(0)};
      if (d < features) {
        sums = sum_over_samples<Scalar>(p, rows, item / p.components,
                                        item % p.components, d, floor);
      }
      shared.mean += sums.mean;
      shared.raw_scale += sums.raw_scale;
      const bool writes = threadIdx.y == 0 && d < features;
      if (grad_mu && p.mu_features > 1) {
        const T sum = block_sum(sums.mean, false);
        if (writes) {
          static_cast<Scalar*>(grad_mu)[item * features + d] =
              static_cast<Scalar>(sum);
        }
      }
      if (grad_scale && p.scale_features > 1) {
        const T sum = block_sum(sums.raw_scale, false);
        if (writes) {
          static_cast<Scalar*>(grad_scale)[item * features + d] =
              static_cast<Scalar>(sum);
        }
      }
    }
    const bool writes = threadIdx.x == 0 && threadIdx.y == 0;
    if (grad_mu && p.mu_features == 1) {
      const T sum = block_sum(shared.mean, true);
      if (writes)
        static_cast<Scalar*>(grad_mu)[item] = static_cast<Scalar>(sum);
    }
    if (grad_scale && p.scale_features == 1) {
      const T sum = block_sum(shared.raw_scale, true);
      if (writes) {
        static_cast<Scalar*>(grad_scale)[item] = static_cast<Scalar>(sum);
      }
    }
  }
}

// ----------------------------------------------------------------- launchers

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>(
      std::clamp<int64_t>((threads + kBlock - 1) / kBlock, 1, kMaxBlocks));
}

// The smallest power of two that is at least `wanted`, but at most `limit`.
int power_of_two(int64_t wanted, int limit) {
  int result = 1;
  while (result < wanted && result < limit) result *= 2;
  return result;
}

template <typename Scalar>
void forward(const GmmForward& p, void* stream) {
  using T = Accumulate<Scalar>;
  const int width = power_of_two(p.features, kWarp);
  launch("gmm component_kernel", component_kernel<Scalar>,
         {blocks_for(p.samples * p.components * width), kBlock}, stream, p,
         width, gmm::Floor<T>(p.min_std));
  launch("gmm mix_kernel", mix_kernel<Scalar>,
         {blocks_for(p.samples * kWarp), kBlock}, stream, p);
}

template <typename Scalar>
void parameter_backward(const GmmBackward& p, const RowMap& rows, void* grad_mu,
                        void* grad_scale, void* stream) {
  using T = Accumulate<Scalar>;
  const int64_t items = rows.rows * p.components;
  if (items == 0) return;
  const int x = power_of_two(p.features, kWarp);
  const int y = power_of_two(rows.repeats, kBlock / x);
  launch("gmm parameter_backward_kernel", parameter_backward_kernel<Scalar>,
         {static_cast<unsigned>(std::min(items, kMaxBlocks)), dim3(x, y),
          x * y * sizeof(T)},
         stream, p, rows, grad_mu, grad_scale, gmm::Floor<T>(p.min_std));
}

template <typename Scalar>
void backward(const GmmBackward& p, void* stream) {
  using T = Accumulate<Scalar>;
  if (p.samples > 0) {
    launch("gmm weigh_kernel", weigh_kernel<Scalar>,
           {blocks_for(p.samples * kWarp), kBlock}, stream, p);
    if (p.grad_x) {
      launch("gmm x_backward_kernel", x_backward_kernel<Scalar>,
             {blocks_for(p.samples * p.features), kBlock}, stream, p,
             gmm::Floor<T>(p.min_std));
    }
  }
  if (p.mu_rows == p.scale_rows && p.grad_mu && p.grad_scale) {
    return parameter_backward<Scalar>(p, p.mu_rows, p.grad_mu, p.grad_scale,
                                      stream);
  }
  if (p.grad_mu) {
    parameter_backward<Scalar>(p, p.mu_rows, p.grad_mu, nullptr, stream);
  }
  if (p.grad_scale) {
    parameter_backward<Scalar>(p, p.scale_rows, nullptr, p.grad_scale, stream);
  }
}

}  // namespace

void gmm_forward_cuda(const GmmForward& p, void* stream) {
  if (p.samples == 0) return;
  dispatch(p.dtype, [&](auto zero) { forward<decltype(zero)>(p, stream); });
}

void gmm_backward_cuda(const GmmBackward& p, void* stream) {
  dispatch(p.dtype, [&](auto zero) { backward<decltype(zero)>(p, stream); });
}

}  // namespace vtadl
