// The density of one component and its gradients, for vectors of samples.
#pragma once

#include <type_traits>

#include "gmm/cpu/lanes.h"
#include "gmm/math.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The parameters of a component, activated. Value: Lanes<T> where each sample
// has its own, T where all samples of a block share them. The steps from one
// feature to the next are 0 where all features share a parameter.
template <typename Value>
struct Component {
  const Value* mean;
  const Value* inverse_std;  // under kTril of the diagonal, and so the slope
  const Value* slope;
  const Value* factor;  // [D, D], under kTril only
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

// Of feature d of the samples of one vector, without the logarithm.
template <typename T, typename Value>
VTADL_HOST_INLINE gmm::ActivatedScale<Vector<T>> scale_of(
    const Component<Value>& c, int64_t d, int v) {
  const auto of = [&](const Value* values) {
    return Vector<T>{} + vector_of<T>(values[d * c.scale_step], v);
  };
  return {of(c.inverse_std), Vector<T>{}, of(c.slope)};
}

// Gradients of a component's parameters, that of a diagonal scale with respect
// to log_std. Sum: Lanes<T> for each sample apart, Vector<T> for sums over the
// samples. Null where they are not wanted.
template <typename Sum>
struct ComponentGrads {
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
VTADL_HOST_INLINE void add(const Vector<T> (&values)[kCount], Lanes<T>& to) {
  for (int v = 0; v < kCount; ++v) to.v[v] += values[v];
}
template <typename T, int kCount>
VTADL_HOST_INLINE void add(const Vector<T> (&values)[kCount], Vector<T>& to) {
  to += total_of<T, kCount>(values);
}

// From here on kCount is the number of vectors that count.

template <typename T, int kCount, typename Value>
VTADL_HOST_INLINE Lanes<T> diagonal_distance(const Lanes<T>* x,
                                             const Component<Value>& c,
                                             int64_t features) {
  Lanes<T> distance{};
  for (int64_t d = 0; d < features; ++d) {
    const Value& mean = c.mean[d * c.mean_step];
    const Value& inverse_std = c.inverse_std[d * c.scale_step];
    for (int v = 0; v < kCount; ++v) {
      const auto z =
          (x[d].v[v] - vector_of<T>(mean, v)) * vector_of<T>(inverse_std, v);
      distance.v[v] += z * z;
    }
  }
  return distance;
}

template <typename T, int kCount, typename Value, typename Sum>
VTADL_HOST_INLINE void diagonal_grads(const Lanes<T>* x,
                                      const Component<Value>& c,
                                      int64_t features, const Lanes<T>& weight,
                                      Lanes<T>* grad_x,
                                      const ComponentGrads<Sum>& out) {
  for (int64_t d = 0; d < features; ++d) {
    const Value& mean = c.mean[d * c.mean_step];
    const Value& inverse_std = c.inverse_std[d * c.scale_step];
    Vector<T> mean_grad[kCount], scale_grad[kCount];
    for (int v = 0; v < kCount; ++v) {
      const Vector<T> w = weight.v[v];
      const auto z =
          (x[d].v[v] - vector_of<T>(mean, v)) * vector_of<T>(inverse_std, v);
      const auto pull = w * z;
      // Without weight nothing counts, whatever the component holds.
      mean_grad[v] =
          select(w != 0, pull * vector_of<T>(inverse_std, v), Vector<T>{});
      scale_grad[v] = select(w != 0, pull * z - w, Vector<T>{});
      if (grad_x) grad_x[d].v[v] -= mean_grad[v];
    }
    if (out.mean) add<T>(mean_grad, out.mean[d * out.mean_step]);
    if (out.scale) add<T>(scale_grad, out.scale[d * out.scale_step]);
  }
}

// From the gradients with respect to log_std to those of scale, `size` of them.
template <typename T, int kCount>
VTADL_HOST_INLINE void chain_grads(ScaleParam param,
                                   const Component<Lanes<T>>& c, int64_t size,
                                   Lanes<T>* grads) {
  for (int64_t i = 0; i < size; ++i) {
    for (int v = 0; v < kCount; ++v) {
      auto& grad = grads[i].v[v];
      grad = gmm::chain(param, grad, scale_of<T>(c, i, v));
    }
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
    y[i] = gmm::solve_row(rest, scale_of<T>(c, i, v).inverse_std);
  }
}

template <typename T, int kCount, typename Value>
VTADL_HOST_INLINE Lanes<T> tril_distance(const Lanes<T>* x,
                                         const Component<Value>& c,
                                         int64_t features) {
  Lanes<T> distance{};
  for (int v = 0; v < kCount; ++v) {
    Vector<T> y[kMaxTrilFeatures];
    whiten<T>(x, c, features, v, y);
    for (int64_t i = 0; i < features; ++i) distance.v[v] += y[i] * y[i];
  }
  return distance;
}

template <typename T, int kCount, typename Value, typename Sum>
VTADL_HOST_INLINE void tril_grads(const Lanes<T>* x, const Component<Value>& c,
                                  int64_t features, const Lanes<T>& weight,
                                  Lanes<T>* grad_x,
                                  const ComponentGrads<Sum>& out) {
  constexpr auto kDiagonal = ScaleParam::kStd;
  // u = factor⁻ᵀ·y; y and u of all vectors.
  Lanes<T> y[kMaxTrilFeatures], u[kMaxTrilFeatures];
  for (int v = 0; v < kCount; ++v) {
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
    Vector<T> pull[kCount];
    for (int v = 0; v < kCount; ++v) {
      const Vector<T> w = weight.v[v];
      pull[v] = select(w != 0, w * u[i].v[v], Vector<T>{});
      if (grad_x) grad_x[i].v[v] -= pull[v];
    }
    if (out.mean) add<T>(pull, out.mean[i * out.mean_step]);
    for (int64_t j = 0; out.scale && j <= i; ++j) {
      Vector<T> grad[kCount];
      for (int v = 0; v < kCount; ++v) {
        const Vector<T> w = weight.v[v];
        grad[v] = pull[v] * y[j].v[v];
        if (i == j) grad[v] -= gmm::chain<kDiagonal>(w, scale_of<T>(c, i, v));
        grad[v] = select(w != 0, grad[v], Vector<T>{});
      }
      add<T>(grad, out.scale[i * features + j]);
    }
  }
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
