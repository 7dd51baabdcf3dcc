// The contract between the mixture-likelihood operators and their kernels.
#pragma once

#include <array>
#include <cstdint>

#include "common/dispatch.h"
#include "common/row_map.h"
#include "gmm/scale_param.h"

namespace vtadl {

// kLogSumExp: log Σ_k π_k N_k.  kWeighted: Σ_k π_k log N_k.  kNone: no mixture,
// the log N_k themselves.
enum class Mixture { kLogSumExp, kWeighted, kNone };

// The names in Python, in the order of the numbers.
inline constexpr std::array kMixtureNames = {"logsumexp", "weighted", "none"};
static_assert(kMixtureNames.size() ==
                  static_cast<std::size_t>(Mixture::kNone) + 1,
              "every enumerator has a name");

constexpr std::int64_t kMaxTrilFeatures = 8;

// mu or scale: [rows.rows, components, size].
struct GmmParameter {
  const void* data;
  RowMap rows;
  std::int64_t components;  // K, or 1 for all components alike
  std::int64_t size;        // D, or 1 for all features alike; D·D under kTril

  VTADL_INLINE std::int64_t numel() const {
    return rows.rows * components * size;
  }

  // Returns the index of the first element of component k of `row`.
  VTADL_INLINE std::int64_t offset(std::int64_t row, std::int64_t k) const {
    return (components == 1 ? row : row * components + k) * size;
  }
};

// N samples of D features under mixtures of K components. All tensors are
// contiguous; `Accumulate` is float32, or float64 where dtype is float64.
struct GmmProblem {
  DType dtype;
  ScaleParam scale_param;
  Mixture mixture;
  double min_std;
  std::int64_t samples, components, features;  // N, K, D
  RowMap x_rows, logits_rows;
  const void* x;       // [x_rows, D]
  const void* logits;  // [logits_rows, K]; not read under kNone
  GmmParameter mu, scale;
};

// The forward pass; its results are of type Accumulate.
struct GmmForward : GmmProblem {
  void* log_prob;                // [N]; null under kNone
  void* component_log_prob;      // [N, K]: log N_k, under kLogSumExp + log π_k
  bool keeps_components = true;  // false: they are scratch
};

// The backward pass. Gradients that nobody asked for are null pointers.
struct GmmBackward : GmmProblem {
  // The gradient of log_prob, or under kNone that of component_log_prob.
  const void* grad;      // [N] or [N, K], Accumulate; null for constant_grad
  double constant_grad;  // the same for all samples
  const void* log_prob;  // [N], Accumulate; null under kNone
  const void* component_log_prob;  // [N, K], Accumulate; not read under kNone
  void* grad_log_normal;           // [N, K], Accumulate: scratch
  void* grad_x;                    // [N, D], Accumulate: one row per sample
  void* grad_logits;               // [N, K], Accumulate: one row per sample
  void* grad_mu;                   // as mu
  void* grad_scale;                // as scale
};

// Both passes at once, so that the second finds in the cache what the first has
// read. The backward pass reads what the forward pass writes.
struct GmmForwardBackward {
  GmmForward forward;
  GmmBackward backward;
};

struct GmmCpuKernels {
  void (*forward)(const GmmForward&);
  void (*backward)(const GmmBackward&);
  void (*forward_backward)(const GmmForwardBackward&);
};

void gmm_forward_cuda(const GmmForward&, void* stream);
void gmm_backward_cuda(const GmmBackward&, void* stream);
void gmm_forward_backward_cuda(const GmmForwardBackward&, void* stream);

}  // namespace vtadl
