// Kernels for Cholesky factors L of the covariances: y = L⁻¹ (x - mu) and
// u = L⁻ᵀ y.
#pragma once

#include "gmm/cuda/device.h"

namespace vtadl::gmm {

constexpr int kMaxTril = int(kMaxTrilFeatures);

// A group of `width` lanes, at least D, solves one component for one sample.
// Lane i has row and column i, and this of the solution.
template <typename T>
struct TrilSolution {
  T y, u;                      // of the lane's own feature
  ActivatedScale<T> diagonal;  // L_ii, as a std
};

// All lanes of the warp have to take part. A group that is not in use reads
// nothing, and its result means nothing.
template <bool kBackward, typename Scalar, typename T = Accumulate<Scalar>>
__device__ TrilSolution<T> solve_tril(const GmmProblem& p, int64_t n, int64_t k,
                                      bool in_use, int width) {
  const int size = int(p.features), i = lane_of(width);
  const bool has_row = in_use && i < size;
  T residual = 0, diagonal = 1, row[kMaxTril], column[kMaxTril];
  VTADL_UNROLL
  for (int j = 0; j < kMaxTril; ++j) row[j] = column[j] = 0;
  if (has_row) {
    T mean[1];
    ComponentParameter<Scalar>(p.mu, p.mu.rows.row(n), k).load(i, mean);
    residual = static_cast<T>(sample_features<Scalar>(p, n)[i]) - mean[0];
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
    const T y = __shfl_sync(kFullMask, solve_row(residual, inverse), j, width);
    if (j < i && j < size) residual -= row[j] * y;
  }
  solution.y = solution.u = solve_row(residual, inverse);
  if constexpr (kBackward) {
    residual = solution.y;
    VTADL_UNROLL
    for (int j = kMaxTril - 1; j >= 0; --j) {
      if (j >= size) continue;
      const T u = __shfl_sync(
          kFullMask, solve_row_transposed(residual, inverse), j, width);
      if (j > i) residual -= column[j] * u;
    }
    solution.u = solve_row_transposed(residual, inverse);
  }
  return solution;
}

// The kernel writes log N_k. A group of lanes per (sample, component) reads mu
// and L once, which are N·K·(D + D²) elements, and writes N·K. Half of the
// threads that a multiprocessor holds are resident.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void tril_forward_kernel(GmmForward p, int width) {
  const int i = lane_of(width);
  for_each_item(
      p.samples * p.components, width, [&](int64_t item, bool in_use) {
        const auto solution = solve_tril<false, Scalar>(
            p, item / p.components, item % p.components, in_use, width);
        LogNormalSums<T> sums;
        if (i < p.features) {
          sums.distance = solution.y * solution.y;
          sums.log_det = solution.diagonal.log_std;
        }
        const T log_normal = sums.log_normal(p.features, width);
        if (in_use && i == 0) {
          static_cast<T*>(p.component_log_prob)[item] = log_normal;
        }
      });
}

// Adds the gradient of column i of L, where lane i of the group calls, from
// that with respect to log N_k.
template <typename T>
__device__ void add_tril_grad(const TrilSolution<T>& solution, T grad,
                              int width, T (&column)[kMaxTril]) {
  const int i = lane_of(width);
  VTADL_UNROLL
  for (int row = 0; row < kMaxTril; ++row) {
    if (row >= width) break;
    const T u = __shfl_sync(kFullMask, solution.u, row, width);
    if (grad == 0 || row < i) continue;
    column[row] += tril_grad(tril_mean_grad(grad, u), solution.y);
    if (row == i) column[row] -= tril_log_det_grad(grad, solution.diagonal);
  }
}

// Stores column i, where lane i calls: neighbours write neighbours.
template <typename Scalar, typename T>
__device__ void store_tril_grad(Scalar* grad, int64_t features, int i,
                                const T (&column)[kMaxTril]) {
  VTADL_UNROLL
  for (int row = 0; row < kMaxTril; ++row) {
    if (row >= features) break;
    grad[row * features + i] = static_cast<Scalar>(column[row]);
  }
}

// The kernel writes the gradients of x and of the samples' own parameters. A
// warp serves a sample, a group of its lanes a component: it reads mu and L and
// writes their gradients once, which are 2·N·K·(D + D²) elements; the gradient
// of x stays in registers. Half of the threads that a multiprocessor holds are
// resident.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void tril_backward_kernel(GmmBackward p, int width,
                                     OwnGrads<Scalar> own) {
  const int lane = threadIdx.x % kWarp, i = lane % width;
  for_each_item(p.samples, kWarp, [&](int64_t n, bool) {
    T grad_x = 0;
    for (int64_t first = 0; first < p.components; first += kWarp / width) {
      const int64_t k = first + lane / width, at = n * p.components + k;
      const bool in_use = k < p.components;
      const T grad = in_use ? log_normal_grads<T>(p)[at] : T(0);
      const auto solution = solve_tril<true, Scalar>(p, n, k, grad != 0, width);
      const T grad_mean = grad == 0 ? T(0) : tril_mean_grad(grad, solution.u);
      T column[kMaxTril] = {};
      if (own.scale) add_tril_grad(solution, grad, width, column);
      grad_x -= grad_mean;
      if (!in_use || i >= p.features) continue;
      if (own.mu) own.mu[at * p.features + i] = static_cast<Scalar>(grad_mean);
      if (own.scale) {
        store_tril_grad(own.scale + at * p.scale.size, p.features, i, column);
      }
    }
    grad_x = warp_sum_of_groups(grad_x, width);
    if (p.grad_x && lane < p.features) {
      static_cast<T*>(p.grad_x)[n * p.features + lane] = grad_x;
    }
  });
}

// The kernel writes the gradients of shared parameters. A block serves one
// (row, component) of the parameter, its groups of lanes side by side on the
// samples. The kernel reads the gradients with respect to log N_k once, N·K
// elements, x once for every component and L from the cache. 3/8 of the threads
// that a multiprocessor holds are resident.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void tril_sums_kernel(GmmBackward p, RowMap rows, int64_t owners,
                                 int width, Scalar* grad_mu,
                                 Scalar* grad_scale) {
  const int i = lane_of(width), groups = blockDim.x / width;
  const int64_t components = p.components / owners;
  const int64_t addends = rows.repeats * components;
  T* const smem = shared_memory<T>();
  for (int64_t item = blockIdx.x; item < rows.rows * owners;
       item += gridDim.x) {
    T grad_mean = 0, column[kMaxTril] = {};
    for (int64_t first = 0; first < addends; first += groups) {
      const int64_t addend = first + threadIdx.x / width;
      const bool in_use = addend < addends;
      const int64_t n =
          in_use ? rows.sample(item / owners, addend / components) : 0;
      const int64_t k = item % owners + addend % components;
      const T grad =
          in_use ? log_normal_grads<T>(p)[n * p.components + k] : T(0);
      const auto solution = solve_tril<true, Scalar>(p, n, k, grad != 0, width);
      if (grad != 0 && i < p.features) {
        grad_mean += tril_mean_grad(grad, solution.u);
      }
      add_tril_grad(solution, grad, width, column);
    }
    const bool writes = int(threadIdx.x) < p.features;
    grad_mean = block_sum_of_groups(grad_mean, width, smem);
    const T total = warp_sum(grad_mean, width);
    if (grad_mu && p.mu.size > 1 && writes) {
      grad_mu[item * p.features + i] = static_cast<Scalar>(grad_mean);
    }
    if (grad_mu && p.mu.size == 1 && threadIdx.x == 0) {
      grad_mu[item] = static_cast<Scalar>(total);
    }
    if (grad_scale) {
      VTADL_UNROLL
      for (int row = 0; row < kMaxTril; ++row) {
        column[row] = block_sum_of_groups(column[row], width, smem);
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
void tril_forward(const GmmForward& p, void* stream) {
  const GroupShape shape(p.samples * p.components, tril_width(p));
  launch("gmm tril_forward_kernel", tril_forward_kernel<Scalar>, shape.launch,
         stream, p, shape.width);
}

template <typename Scalar>
void tril_backward(const GmmBackward& p, const OwnGrads<Scalar>& own,
                   void* stream) {
  launch("gmm tril_backward_kernel", tril_backward_kernel<Scalar>,
         GroupShape(p.samples, kWarp).launch, stream, p, tril_width(p), own);
}

template <typename Scalar>
void tril_sums(const GmmBackward& p, const SummedGrads& grads, void* stream) {
  launch("gmm tril_sums_kernel", tril_sums_kernel<Scalar>,
         tril_sums_shape<Accumulate<Scalar>>(p, grads.parameter), stream, p,
         grads.parameter.rows, grads.parameter.components, tril_width(p),
         static_cast<Scalar*>(grads.grad_mu),
         static_cast<Scalar*>(grads.grad_scale));
}

}  // namespace vtadl::gmm
