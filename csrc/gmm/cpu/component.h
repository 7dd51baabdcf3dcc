// The density of one component and its gradients, for vectors of samples.
#pragma once

#include <type_traits>

#include "gmm/cpu/lanes.h"
#include "gmm/math.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The activated parameters of a component. Value: BlockValues<T> where each
// sample has its own, T where all samples of a block share them. The steps from
// one feature to the next are 0 where all features share a parameter.
template <typename Value>
struct Component {
  const Value* mean;
  const Value* inverse_std;  // under kTril, of the diagonal, like the slope
  const Value* slope;
  const Value* factor;  // [D, D], under kTril only
  const Value* log_det;
  int64_t mean_step, scale_step;
};

template <typename T>
VTADL_HOST_INLINE Vector<T> vector_of(const BlockValues<T>& lanes, int v) {
  return lanes.v[v];
}
template <typename T>
VTADL_HOST_INLINE Vector<T> vector_of(const T& value, int) {
  return broadcast<Vector<T>>(value);
}

// The scale of feature d for the samples of one vector, without its logarithm.
template <typename T, typename Value>
VTADL_HOST_INLINE gmm::ActivatedScale<Vector<T>> scale_of(
    const Component<Value>& c, int64_t d, int v) {
  return {vector_of<T>(c.inverse_std[d * c.scale_step], v), Vector<T>{},
          vector_of<T>(c.slope[d * c.scale_step], v)};
}

// The standardised residual of feature d for the samples of one vector.
template <typename T, typename Value>
VTADL_HOST_INLINE Vector<T> standardized(const BlockValues<T>* x,
                                         const Component<Value>& c, int64_t d,
                                         int v) {
  return gmm::standardize(x[d].v[v], vector_of<T>(c.mean[d * c.mean_step], v),
                          vector_of<T>(c.inverse_std[d * c.scale_step], v));
}

// The gradients of a component's parameters; that of a diagonal scale is the
// one with respect to log_std. Sum: BlockValues<T> for each sample apart,
// Vector<T> for sums over the samples. Null where they are not wanted.
template <typename Sum>
struct ParameterGrads {
  Sum* mean;
  Sum* scale;
  int64_t mean_step, scale_step;
};

template <typename T, int kCount>
VTADL_HOST_INLINE Vector<T> total_of(const Vector<T>* values) {
  if constexpr (kCount == 1) {
    return values[0];
  } else {
    return total_of<T, kCount / 2>(values) +
           total_of<T, kCount / 2>(values + kCount / 2);
  }
}

template <typename T, int kCount>
VTADL_HOST_INLINE void add(const Vector<T> (&values)[kCount],
                           BlockValues<T>& to) {
  for (int v = 0; v < kCount; ++v) to.v[v] += values[v];
}
template <typename T, int kCount>
VTADL_HOST_INLINE void add(const Vector<T> (&values)[kCount], Vector<T>& to) {
  to += total_of<T, kCount>(values);
}

// In the functions below kCount is the number of vectors that hold samples.

template <typename T, int kCount, typename Value>
VTADL_HOST_INLINE BlockValues<T> diagonal_distance(const BlockValues<T>* x,
                                                   const Component<Value>& c,
                                                   int64_t features) {
  BlockValues<T> distance{};
  for (int64_t d = 0; d < features; ++d) {
    for (int v = 0; v < kCount; ++v) {
      const auto z = standardized<T>(x, c, d, v);
      distance.v[v] += z * z;
    }
  }
  return distance;
}

// Adds to the gradients, given that with respect to log N_k. Where that is 0
// nothing is added, whatever the component holds.
template <typename T, int kCount, typename Value, typename Sum>
VTADL_HOST_INLINE void add_diagonal_grads(const BlockValues<T>* x,
                                          const Component<Value>& c,
                                          int64_t features,
                                          const BlockValues<T>& grad_log_normal,
                                          BlockValues<T>* grad_x,
                                          const ParameterGrads<Sum>& out) {
  for (int64_t d = 0; d < features; ++d) {
    Vector<T> grad_mean[kCount], grad_log_std[kCount];
    for (int v = 0; v < kCount; ++v) {
      const Vector<T> grad = grad_log_normal.v[v];
      const auto part = gmm::feature_grad(grad, standardized<T>(x, c, d, v));
      const auto inverse_std = vector_of<T>(c.inverse_std[d * c.scale_step], v);
      grad_mean[v] = select(grad != 0, part.mean(inverse_std), Vector<T>{});
      grad_log_std[v] = select(grad != 0, part.log_std, Vector<T>{});
      if (grad_x) grad_x[d].v[v] -= grad_mean[v];
    }
    if (out.mean) add<T>(grad_mean, out.mean[d * out.mean_step]);
    if (out.scale) add<T>(grad_log_std, out.scale[d * out.scale_step]);
  }
}

// Turns `size` gradients with respect to log_std into those of scale.
template <typename T, int kCount>
VTADL_HOST_INLINE void chain_grads(ScaleParam param,
                                   const Component<BlockValues<T>>& c,
                                   int64_t size, BlockValues<T>* grads) {
  gmm::with_scale_param(param, [&](auto known) {
    for (int64_t i = 0; i < size; ++i) {
      for (int v = 0; v < kCount; ++v) {
        auto& grad = grads[i].v[v];
        grad = gmm::chain<decltype(known)::value>(grad, scale_of<T>(c, i, v));
      }
    }
  });
}

// y = factor⁻¹·(x - mean) for one vector of samples.
template <typename T, typename Value>
VTADL_HOST_INLINE void solve_tril(const BlockValues<T>* x,
                                  const Component<Value>& c, int64_t features,
                                  int v, Vector<T>* y) {
  for (int64_t i = 0; i < features; ++i) {
    Vector<T> residual = x[i].v[v] - vector_of<T>(c.mean[i * c.mean_step], v);
    for (int64_t j = 0; j < i; ++j) {
      residual -= vector_of<T>(c.factor[i * features + j], v) * y[j];
    }
    y[i] = gmm::solve_row(residual, scale_of<T>(c, i, v).inverse_std);
  }
}

// u = factor⁻ᵀ·y for one vector of samples.
template <typename T, typename Value>
VTADL_HOST_INLINE void solve_tril_transposed(const Component<Value>& c,
                                             int64_t features, int v,
                                             const Vector<T>* y, Vector<T>* u) {
  for (int64_t i = features - 1; i >= 0; --i) {
    Vector<T> residual = y[i];
    for (int64_t j = i + 1; j < features; ++j) {
      residual -= vector_of<T>(c.factor[j * features + i], v) * u[j];
    }
    u[i] =
        gmm::solve_row_transposed(residual, vector_of<T>(c.inverse_std[i], v));
  }
}

template <typename T, int kCount, typename Value>
VTADL_HOST_INLINE BlockValues<T> tril_distance(const BlockValues<T>* x,
                                               const Component<Value>& c,
                                               int64_t features) {
  BlockValues<T> distance{};
  for (int v = 0; v < kCount; ++v) {
    Vector<T> y[kMaxTrilFeatures];
    solve_tril<T>(x, c, features, v, y);
    for (int64_t i = 0; i < features; ++i) distance.v[v] += y[i] * y[i];
  }
  return distance;
}

// As add_diagonal_grads(), for a Cholesky factor.
template <typename T, int kCount, typename Value, typename Sum>
VTADL_HOST_INLINE void add_tril_grads(const BlockValues<T>* x,
                                      const Component<Value>& c,
                                      int64_t features,
                                      const BlockValues<T>& grad_log_normal,
                                      BlockValues<T>* grad_x,
                                      const ParameterGrads<Sum>& out) {
  Vector<T> y[kCount][kMaxTrilFeatures], u[kCount][kMaxTrilFeatures];
  for (int v = 0; v < kCount; ++v) {
    solve_tril<T>(x, c, features, v, y[v]);
    solve_tril_transposed<T>(c, features, v, y[v], u[v]);
  }
  for (int64_t i = 0; i < features; ++i) {
    Vector<T> grad_mean[kCount];
    for (int v = 0; v < kCount; ++v) {
      const Vector<T> grad = grad_log_normal.v[v];
      grad_mean[v] =
          select(grad != 0, gmm::tril_mean_grad(grad, u[v][i]), Vector<T>{});
      if (grad_x) grad_x[i].v[v] -= grad_mean[v];
    }
    if (out.mean) add<T>(grad_mean, out.mean[i * out.mean_step]);
    for (int64_t j = 0; out.scale && j <= i; ++j) {
      Vector<T> grad_factor[kCount];
      for (int v = 0; v < kCount; ++v) {
        const Vector<T> grad = grad_log_normal.v[v];
        const auto part =
            i == j ? gmm::tril_grad(grad_mean[v], y[v][j]) -
                         gmm::tril_log_det_grad(grad, scale_of<T>(c, i, v))
                   : gmm::tril_grad(grad_mean[v], y[v][j]);
        grad_factor[v] = select(grad != 0, part, Vector<T>{});
      }
      add<T>(grad_factor, out.scale[i * features + j]);
    }
  }
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
