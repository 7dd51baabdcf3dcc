// The contract between the mixture-likelihood operators and their kernels.
#pragma once

#include <cstdint>

#include "common/dispatch.h"
#include "common/row_map.h"

namespace vtadl {

// What the `scale` argument holds.
enum class ScaleParam { kLogStd, kStd, kLogVar, kVar, kSoftplus };

// kLogSumExp: log Σ_k π_k N_k.  kWeighted: Σ_k π_k log N_k.
enum class Mixture { kLogSumExp, kWeighted };

// N samples of D features under mixtures of K components. All tensors are
// contiguous; `Accumulate` is float32, or float64 where dtype is float64.
struct GmmProblem {
  DType dtype;
  ScaleParam scale_param;
  Mixture mixture;
  double min_std;
  std::int64_t samples, components, features;  // N, K, D
  std::int64_t mu_features, scale_features;    // D, or 1 for all features alike
  RowMap x_rows, logits_rows, mu_rows, scale_rows;
  const void* x;       // [x_rows, D]
  const void* logits;  // [logits_rows, K]
  const void* mu;      // [mu_rows, K, mu_features]
  const void* scale;   // [scale_rows, K, scale_features]
};

// Results of type Accumulate.
struct GmmForward : GmmProblem {
  void* log_prob;            // [N]
  void* component_log_prob;  // [N, K]: log N_k, under kLogSumExp + log π_k
};

// Null pointers for the gradients that nobody asked for.
struct GmmBackward : GmmProblem {
  const void* grad;                // [N], Accumulate
  const void* log_prob;            // [N], Accumulate
  const void* component_log_prob;  // [N, K], Accumulate
  void* weight;                    // [N, K], Accumulate: room to work in
  void* grad_x;                    // [N, D], Accumulate: one row per sample
  void* grad_logits;               // [N, K], Accumulate: one row per sample
  void* grad_mu;                   // as mu
  void* grad_scale;                // as scale
};

struct GmmCpuKernels {
  void (*forward)(const GmmForward&);
  void (*backward)(const GmmBackward&);
};

void gmm_forward_cuda(const GmmForward&, void* stream);
void gmm_backward_cuda(const GmmBackward&, void* stream);

}  // namespace vtadl
