// Kernels for Cholesky factors T of the covariances: y = T⁻¹ (x - mu) and
// u = T⁻ᵀ y.
#pragma once

#include "gmm/cuda/device.h"

namespace vtadl::gmm {

constexpr int kMaxTril = int(kMaxTrilFeatures);

// One component for one sample, solved by a group of `width` lanes, at least D:
// the lane i has row and column i. All lanes of a warp have to take part.
template <typename T>
struct TrilSolution {
  T y, u;                      // of the lane's own feature
  ActivatedScale<T> diagonal;  // T_ii, as a std
};

// A group whose `item` is not in use reads nothing; its result means nothing.
template <bool kBackward, typename Scalar, typename T = Accumulate<Scalar>>
__device__ TrilSolution<T> solve_tril(const GmmProblem& p, int64_t n, int64_t k,
                                      bool in_use, int width) {
  const int size = int(p.features), i = lane_of(width);
  const bool has_row = in_use && i < size;
  T rest = 0, diagonal = 1, row[kMaxTril], column[kMaxTril];
  VTADL_UNROLL
  for (int j = 0; j < kMaxTril; ++j) row[j] = column[j] = 0;
  if (has_row) {
    T mean[1];
    ComponentParameter<Scalar>(p.mu, p.mu.rows.row(n), k).load(i, mean);
    rest = static_cast<T>(sample_features<Scalar>(p, n)[i]) - mean[0];
    const Scalar* factor =
        ComponentParameter<Scalar>(p.scale, p.scale.rows.row(n), k).data;
    diagonal = static_cast<T>(factor[i * size + i]);
    VTADL_UNROLL
    for (int j = 0; j < kMaxTril; ++j) {
      if (j < i) row[j] = static_cast<T>(factor[i * size + j]);
      if (kBackward && j > i && j < size) {
        column[j] = static_cast<T>(factor[j * size + i]);
      }
    }
  }
  TrilSolution<T> solution;
  solution.diagonal = activate_tril_diagonal(diagonal);
  const T inverse = solution.diagonal.inverse_std;
  VTADL_UNROLL
  for (int j = 0; j < kMaxTril; ++j) {
    const T y = __shfl_sync(kFullMask, solve_row(rest, inverse), j, width);
    if (j < i && j < size) rest -= row[j] * y;
  }
  solution.y = solution.u = solve_row(rest, inverse);
  if constexpr (kBackward) {
    rest = solution.y;
    VTADL_UNROLL
    for (int j = kMaxTril - 1; j >= 0; --j) {
      if (j >= size) continue;
      const T u = __shfl_sync(kFullMask, rest * inverse, j, width);
      if (j > i) rest -= column[j] * u;
    }
    solution.u = rest * inverse;
  }
  return solution;
}

inline int tril_width(const GmmProblem& p) {
  return power_of_two(p.features, kMaxTril);
}

// log N_k. A group of lanes per (sample, component): reads mu and T once, which
// are N·K·(D + D²) elements, and writes N·K. Half of the threads that a
// multiprocessor holds.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void tril_component_kernel(GmmForward p, int width) {
  const int64_t items = p.samples * p.components;
  const GroupStride group(width);
  const int i = lane_of(width);
  const int64_t warp_first = group.warp_first(width);
  for (int64_t offset = 0; warp_first + offset < items; offset += group.step) {
    const int64_t item = group.first + offset;
    const auto solution = solve_tril<false, Scalar>(
        p, item / p.components, item % p.components, item < items, width);
    const bool has_row = i < p.features;
    const T square = has_row ? solution.y * solution.y : T(0);
    const T log_det = has_row ? solution.diagonal.log_std : T(0);
    const T log_of_normal = log_normal(p.features, warp_sum(log_det, width),
                                       warp_sum(square, width));
    if (item < items && i == 0) {
      static_cast<T*>(p.component_log_prob)[item] = log_of_normal;
    }
  }
}

// Column i of the gradient of T, where lane i of the group calls.
template <typename T>
__device__ void add_tril_grad(const TrilSolution<T>& solution, T weight,
                              int width, T (&column)[kMaxTril]) {
  const int i = lane_of(width);
  VTADL_UNROLL
  for (int row = 0; row < kMaxTril; ++row) {
    if (row >= width) break;
    const T u = __shfl_sync(kFullMask, solution.u, row, width);
    if (weight == 0 || row < i) continue;
    column[row] += weight * u * solution.y;
    if (row == i) {
      column[row] -= chain<ScaleParam::kStd>(weight, solution.diagonal);
    }
  }
}

// Lane i writes column i: neighbours write neighbours.
template <typename Scalar, typename T>
__device__ void store_tril_grad(Scalar* grad, int64_t features, int i,
                                const T (&column)[kMaxTril]) {
  VTADL_UNROLL
  for (int row = 0; row < kMaxTril; ++row) {
    if (row >= features) break;
    grad[row * features + i] = static_cast<Scalar>(column[row]);
  }
}

// Gradients of x and of private parameters. A warp per sample, a group of its
// lanes per component: reads mu and T and writes their gradients once, which
// are 2·N·K·(D + D²) elements; the gradient of x stays in registers. Half of
// the threads that a multiprocessor holds.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void tril_sample_backward_kernel(GmmBackward p, int width,
                                            Scalar* grad_mu,
                                            Scalar* grad_scale) {
  const GroupStride warp(kWarp);
  const int lane = threadIdx.x % kWarp, i = lane % width;
  for (int64_t n = warp.first; n < p.samples; n += warp.step) {
    T grad_x = 0;
    for (int64_t first = 0; first < p.components; first += kWarp / width) {
      const int64_t k = first + lane / width, at = n * p.components + k;
      const bool in_use = k < p.components;
      const T weight = in_use ? component_weights<T>(p)[at] : T(0);
      const auto solution =
          solve_tril<true, Scalar>(p, n, k, weight != 0, width);
      const T pull = weight == 0 ? T(0) : weight * solution.u;
      T column[kMaxTril] = {};
      if (grad_scale) add_tril_grad(solution, weight, width, column);
      grad_x -= pull;
      if (!in_use || i >= p.features) continue;
      if (grad_mu) grad_mu[at * p.features + i] = static_cast<Scalar>(pull);
      if (grad_scale) {
        store_tril_grad(grad_scale + at * p.scale.size, p.features, i, column);
      }
    }
    grad_x = warp_sum_of_groups(grad_x, width);
    if (p.grad_x && lane < p.features) {
      static_cast<T*>(p.grad_x)[n * p.features + lane] = grad_x;
    }
  }
}

// Gradients of shared parameters: a block per (row, component) of the
// parameter, its groups of lanes side by side on the samples. Reads the weights
// once, N·K elements, x once for every component and T from the cache. 3/8 of
// the threads that a multiprocessor holds.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void tril_parameter_backward_kernel(GmmBackward p, RowMap rows,
                                               int64_t owners, int width,
                                               Scalar* grad_mu,
                                               Scalar* grad_scale) {
  const int i = lane_of(width), groups = blockDim.x / width;
  const int64_t components = p.components / owners;
  const int64_t addends = rows.repeats * components;
  for (int64_t item = blockIdx.x; item < rows.rows * owners;
       item += gridDim.x) {
    T pull = 0, column[kMaxTril] = {};
    for (int64_t first = 0; first < addends; first += groups) {
      const int64_t addend = first + threadIdx.x / width;
      const bool in_use = addend < addends;
      const int64_t n =
          in_use ? rows.sample(item / owners, addend / components) : 0;
      const int64_t k = item % owners + addend % components;
      const T weight =
          in_use ? component_weights<T>(p)[n * p.components + k] : T(0);
      const auto solution =
          solve_tril<true, Scalar>(p, n, k, weight != 0, width);
      if (weight != 0 && i < p.features) pull += weight * solution.u;
      add_tril_grad(solution, weight, width, column);
    }
    const bool writes = int(threadIdx.x) < p.features;
    pull = block_sum_of_groups(pull, width, shared_memory<T>());
    const T total = warp_sum(pull, width);
    if (grad_mu && p.mu.size > 1 && writes) {
      grad_mu[item * p.features + i] = static_cast<Scalar>(pull);
    }
    if (grad_mu && p.mu.size == 1 && threadIdx.x == 0) {
      grad_mu[item] = static_cast<Scalar>(total);
    }
    if (grad_scale) {
      VTADL_UNROLL
      for (int row = 0; row < kMaxTril; ++row) {
        column[row] =
            block_sum_of_groups(column[row], width, shared_memory<T>());
      }
      if (writes) {
        store_tril_grad(grad_scale + item * p.scale.size, p.features, i,
                        column);
      }
    }
  }
}

// ----------------------------------------------------------------- launchers

template <typename Scalar>
void tril_components(const GmmForward& p, void* stream) {
  const int width = tril_width(p);
  launch(
      "gmm tril_component_kernel", tril_component_kernel<Scalar>,
      {grid_size(divide_up(p.samples * p.components * width, kBlock)), kBlock},
      stream, p, width);
}

template <typename Scalar>
void tril_sample_backward(const GmmBackward& p, void* stream) {
  void* const grad_mu = is_private(p, p.mu) ? p.grad_mu : nullptr;
  void* const grad_scale = is_private(p, p.scale) ? p.grad_scale : nullptr;
  if (!p.grad_x && !grad_mu && !grad_scale) return;
  launch("gmm tril_sample_backward_kernel", tril_sample_backward_kernel<Scalar>,
         {grid_size(divide_up(p.samples * kWarp, kBlock)), kBlock}, stream, p,
         tril_width(p), static_cast<Scalar*>(grad_mu),
         static_cast<Scalar*>(grad_scale));
}

// Either gradient may be null.
template <typename Scalar>
void tril_parameter_backward(const GmmBackward& p,
                             const GmmParameter& parameter, void* grad_mu,
                             void* grad_scale, void* stream) {
  const int64_t items = parameter.rows.rows * parameter.components;
  if (items == 0) return;
  const int width = tril_width(p);
  const int64_t addends =
      parameter.rows.repeats * (p.components / parameter.components);
  const int block =
      std::max(power_of_two(addends, kBlock / width) * width, kWarp);
  launch("gmm tril_parameter_backward_kernel",
         tril_parameter_backward_kernel<Scalar>,
         {grid_size(items), block, block * sizeof(Accumulate<Scalar>)}, stream,
         p, parameter.rows, parameter.components, width,
         static_cast<Scalar*>(grad_mu), static_cast<Scalar*>(grad_scale));
}

}  // namespace vtadl::gmm
