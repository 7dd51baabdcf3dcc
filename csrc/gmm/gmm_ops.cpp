// The mixture-likelihood operators: schemas, argument checks, dispatch.
#include <algorithm>
#include <tuple>

#include "common/cpu_dispatch.h"
#include "common/device.h"
#include "gmm/gmm.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(GmmCpuKernels, gmm_cpu_kernels)

namespace {

// Sizes of all dimensions but the last `count`.
Shape leading(const Tensor& tensor, std::int64_t count) {
  STD_TORCH_CHECK(tensor.dim() >= count, "too few dimensions");
  const auto sizes = tensor.sizes();
  return Shape(sizes.begin(), sizes.end() - count);
}

Shape broadcast(const Shape& a, const Shape& b) {
  Shape result = a.size() < b.size() ? b : a;
  const Shape& shorter = a.size() < b.size() ? a : b;
  const std::size_t offset = result.size() - shorter.size();
  for (std::size_t i = 0; i < shorter.size(); ++i) {
    std::int64_t& size = result[offset + i];
    STD_TORCH_CHECK(size == shorter[i] || size == 1 || shorter[i] == 1,
                    "leading dimensions do not broadcast");
    if (size == 1) size = shorter[i];
  }
  return result;
}

RowMap row_map(const Shape& sizes, const Shape& all) {
  RowMap map;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::int64_t size = all[all.size() - 1 - i];
    const bool present = i < sizes.size();
    const bool broadcast = !present || sizes[sizes.size() - 1 - i] != size;
    STD_TORCH_CHECK(map.add_outer(size, broadcast),
                    "the leading dimensions alternate between broadcast and "
                    "not broadcast too often; expand the tensors");
  }
  return map;
}

// A problem, and the contiguous tensors that it points into.
struct Inputs {
  GmmProblem problem;
  Tensor x, logits, mu, scale;
  Shape samples;  // the broadcast leading dimensions
};

Inputs read_inputs(const Tensor& x, const Tensor& logits, const Tensor& mu,
                   const Tensor& scale, std::int64_t scale_param,
                   double min_std, bool weighted) {
  check_alike(logits, x, "logits");
  check_alike(mu, x, "mu");
  check_alike(scale, x, "scale");
  Inputs in{{},
            torch::stable::contiguous(x),
            torch::stable::contiguous(logits),
            torch::stable::contiguous(mu),
            torch::stable::contiguous(scale),
            broadcast(broadcast(leading(x, 1), leading(logits, 1)),
                      broadcast(leading(mu, 2), leading(scale, 2)))};
  GmmProblem& p = in.problem;
  p.dtype = dtype_of(x);
  STD_TORCH_CHECK(scale_param >= 0 && scale_param <= 4, "bad scale_param");
  p.scale_param = static_cast<ScaleParam>(scale_param);
  p.mixture = weighted ? Mixture::kWeighted : Mixture::kLogSumExp;
  p.min_std = min_std;
  p.samples = 1;
  for (const std::int64_t size : in.samples) p.samples *= size;
  p.components = logits.size(-1);
  p.features = x.size(-1);
  p.mu_features = mu.size(-1);
  p.scale_features = scale.size(-1);
  STD_TORCH_CHECK(p.components > 0 && p.features > 0,
                  "at least one component and one feature are needed");
  STD_TORCH_CHECK(mu.size(-2) == p.components && scale.size(-2) == p.components,
                  "logits, mu and scale differ in their number of components");
  for (const std::int64_t features : {p.mu_features, p.scale_features}) {
    STD_TORCH_CHECK(features == p.features || features == 1,
                    "mu and scale must have as many features as x, or one");
  }
  p.x_rows = row_map(leading(x, 1), in.samples);
  p.logits_rows = row_map(leading(logits, 1), in.samples);
  p.mu_rows = row_map(leading(mu, 2), in.samples);
  p.scale_rows = row_map(leading(scale, 2), in.samples);
  p.x = in.x.const_data_ptr();
  p.logits = in.logits.const_data_ptr();
  p.mu = in.mu.const_data_ptr();
  p.scale = in.scale.const_data_ptr();
  return in;
}

Shape with(Shape shape, std::int64_t size) {
  shape.push_back(size);
  return shape;
}

Tensor accumulated(const Tensor& tensor, const Tensor& x, std::int64_t numel) {
  STD_TORCH_CHECK(
      tensor.scalar_type() == accumulate_type(x) && tensor.numel() == numel,
      "a result of the forward pass has changed");
  return torch::stable::contiguous(tensor);
}

std::tuple<Tensor, Tensor> gmm_forward(Tensor x, Tensor logits, Tensor mu,
                                       Tensor scale, std::int64_t scale_param,
                                       double min_std, bool weighted) {
  const Inputs in =
      read_inputs(x, logits, mu, scale, scale_param, min_std, weighted);
  const ScalarType dtype = accumulate_type(x);
  Tensor log_prob = empty(x, in.samples, dtype);
  Tensor component_log_prob =
      empty(x, with(in.samples, in.problem.components), dtype);
  run_kernel(x,
             GmmForward{in.problem, log_prob.mutable_data_ptr(),
                        component_log_prob.mutable_data_ptr()},
             gmm_cpu_kernels_in_use().forward,
             VTADL_CUDA_KERNEL(gmm_forward_cuda));
  return {log_prob, component_log_prob};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gmm_backward(
    Tensor grad, Tensor log_prob, Tensor component_log_prob, Tensor x,
    Tensor logits, Tensor mu, Tensor scale, std::int64_t scale_param,
    double min_std, bool weighted, bool needs_x, bool needs_logits,
    bool needs_mu, bool needs_scale) {
  const Inputs in =
      read_inputs(x, logits, mu, scale, scale_param, min_std, weighted);
  const GmmProblem& p = in.problem;
  const ScalarType dtype = accumulate_type(x);
  const Shape component_shape = with(in.samples, p.components);
  grad = accumulated(grad, x, p.samples);
  log_prob = accumulated(log_prob, x, p.samples);
  component_log_prob =
      accumulated(component_log_prob, x, p.samples * p.components);

  Tensor weight = empty(x, component_shape, dtype);
  Tensor grad_x = empty_if(needs_x, x, with(in.samples, p.features), dtype);
  Tensor grad_logits = empty_if(needs_logits, x, component_shape, dtype);
  Tensor grad_mu = empty_if(needs_mu, mu, with(leading(mu, 1), p.mu_features),
                            mu.scalar_type());
  Tensor grad_scale =
      empty_if(needs_scale, scale, with(leading(scale, 1), p.scale_features),
               scale.scalar_type());
  run_kernel(
      x,
      GmmBackward{
          p, grad.const_data_ptr(), log_prob.const_data_ptr(),
          component_log_prob.const_data_ptr(), weight.mutable_data_ptr(),
          pointer_if(needs_x, grad_x), pointer_if(needs_logits, grad_logits),
          pointer_if(needs_mu, grad_mu), pointer_if(needs_scale, grad_scale)},
      gmm_cpu_kernels_in_use().backward, VTADL_CUDA_KERNEL(gmm_backward_cuda));
  return {grad_x, grad_logits, grad_mu, grad_scale};
}

}  // namespace
}  // namespace vtadl

STABLE_TORCH_LIBRARY_FRAGMENT(VTADL_LIBRARY, m) {
  m.def(
      "gmm_forward(Tensor x, Tensor logits, Tensor mu, Tensor scale, "
      "int scale_param, float min_std, bool weighted) -> "
      "(Tensor log_prob, Tensor component_log_prob)");
  m.def(
      "gmm_backward(Tensor grad, Tensor log_prob, Tensor component_log_prob, "
      "Tensor x, Tensor logits, Tensor mu, Tensor scale, int scale_param, "
      "float min_std, bool weighted, bool needs_x, bool needs_logits, "
      "bool needs_mu, bool needs_scale) -> (Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(VTADL_LIBRARY, CPU, m) {
  m.impl("gmm_forward", TORCH_BOX(&vtadl::gmm_forward));
  m.impl("gmm_backward", TORCH_BOX(&vtadl::gmm_backward));
}

#ifdef VTADL_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(VTADL_LIBRARY, CUDA, m) {
  m.impl("gmm_forward", TORCH_BOX(&vtadl::gmm_forward));
  m.impl("gmm_backward", TORCH_BOX(&vtadl::gmm_backward));
}
#endif
