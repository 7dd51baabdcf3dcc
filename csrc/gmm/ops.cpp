// The mixture-likelihood operators: schemas, argument checks, dispatch.
#include <algorithm>
#include <tuple>

#include "common/cpu_dispatch.h"
#include "common/device.h"
#include "gmm/gmm.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(GmmCpuKernels, gmm_cpu_kernels)

namespace {

std::int64_t numel(const Shape& shape) {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

// Returns the sizes of all dimensions but the last `count`.
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

// Describes a tensor as [rows, K or 1, size], where one component has
// `event_dims` dimensions.
GmmParameter parameter(const Tensor& tensor, std::int64_t event_dims,
                       const Shape& samples) {
  GmmParameter result{tensor.const_data_ptr(),
                      row_map(leading(tensor, event_dims + 1), samples),
                      tensor.size(-1 - event_dims), 1};
  for (std::int64_t dim = -event_dims; dim < 0; ++dim) {
    result.size *= tensor.size(dim);
  }
  return result;
}

// The options of all operators of this file, as their schemas pass them.
struct Options {
  std::int64_t scale_param;
  double min_std;
  std::int64_t mixture;
};

// A problem, and the contiguous tensors that it points into.
struct Inputs {
  GmmProblem problem;
  Tensor x, logits, mu, scale;
  Shape samples;  // the broadcast leading dimensions
};

void check_parameters(const GmmProblem& p) {
  constexpr std::int64_t kMost = 1 << 30;
  STD_TORCH_CHECK(p.components <= kMost && p.features <= kMost,
                  "so many components or features are not supported");
  STD_TORCH_CHECK(p.components > 0 && p.features > 0,
                  "at least one component and one feature are needed");
  for (const GmmParameter* parameter : {&p.mu, &p.scale}) {
    STD_TORCH_CHECK(
        parameter->components == p.components || parameter->components == 1,
        "logits, mu and scale differ in their number of components");
  }
  STD_TORCH_CHECK(p.mu.size == p.features || p.mu.size == 1,
                  "mu must have as many features as x, or one");
  if (p.scale_param == ScaleParam::kTril) {
    STD_TORCH_CHECK(p.features <= kMaxTrilFeatures &&
                        p.scale.size == p.features * p.features,
                    "a triangular scale must have D by D elements, D <= 8");
  } else {
    STD_TORCH_CHECK(p.scale.size == p.features || p.scale.size == 1,
                    "scale must have as many features as x, or one");
  }
}

template <typename Names>
void check_number_of(const Names& names, std::int64_t number,
                     const char* option) {
  STD_TORCH_CHECK(
      number >= 0 && number < static_cast<std::int64_t>(names.size()), "bad ",
      option);
}

Inputs read_inputs(const Tensor& x, const Tensor& logits, const Tensor& mu,
                   const Tensor& scale, const Options& options) {
  check_alike(logits, x, "logits");
  check_alike(mu, x, "mu");
  check_alike(scale, x, "scale");
  check_number_of(kScaleParamNames, options.scale_param, "scale_param");
  check_number_of(kMixtureNames, options.mixture, "mixture");
  const auto scale_param = static_cast<ScaleParam>(options.scale_param);
  const std::int64_t scale_dims = scale_param == ScaleParam::kTril ? 2 : 1;
  Inputs in{
      {},
      torch::stable::contiguous(x),
      torch::stable::contiguous(logits),
      torch::stable::contiguous(mu),
      torch::stable::contiguous(scale),
      broadcast(broadcast(leading(x, 1), leading(logits, 1)),
                broadcast(leading(mu, 2), leading(scale, scale_dims + 1)))};
  GmmProblem& p = in.problem;
  p.dtype = dtype_of(x);
  p.scale_param = scale_param;
  p.mixture = static_cast<Mixture>(options.mixture);
  p.min_std = options.min_std;
  p.samples = numel(in.samples);
  p.components = logits.size(-1);
  p.features = x.size(-1);
  p.x_rows = row_map(leading(x, 1), in.samples);
  p.logits_rows = row_map(leading(logits, 1), in.samples);
  p.x = in.x.const_data_ptr();
  p.logits = in.logits.const_data_ptr();
  p.mu = parameter(in.mu, 1, in.samples);
  p.scale = parameter(in.scale, scale_dims, in.samples);
  check_parameters(p);
  return in;
}

Shape with(Shape shape, std::int64_t size) {
  shape.push_back(size);
  return shape;
}

// The gradients that are wanted.
struct Needs {
  bool x, logits, mu, scale;
};

// The results of the backward pass; the gradient with respect to log N_k is
// scratch.
struct Grads {
  Tensor log_normal, x, logits, mu, scale;

  Grads(const Inputs& in, const Needs& needs)
      : log_normal(empty(in.x, with(in.samples, in.problem.components),
                         accumulate_type(in.x))),
        x(empty_if(needs.x, in.x, with(in.samples, in.problem.features),
                   accumulate_type(in.x))),
        logits(empty_if(needs.logits, in.x,
                        with(in.samples, in.problem.components),
                        accumulate_type(in.x))),
        mu(empty_if(needs.mu, in.mu, leading(in.mu, 0), in.mu.scalar_type())),
        scale(empty_if(needs.scale, in.scale, leading(in.scale, 0),
                       in.scale.scalar_type())) {}
};

GmmBackward backward_problem(const Inputs& in, const void* grad,
                             double constant_grad, const Tensor& log_prob,
                             const Tensor& component_log_prob,
                             const Grads& grads, const Needs& needs) {
  return {in.problem,
          grad,
          constant_grad,
          log_prob.const_data_ptr(),
          component_log_prob.const_data_ptr(),
          grads.log_normal.mutable_data_ptr(),
          pointer_if(needs.x, grads.x),
          pointer_if(needs.logits, grads.logits),
          pointer_if(needs.mu, grads.mu),
          pointer_if(needs.scale, grads.scale)};
}

Tensor accumulated(const Tensor& tensor, const Tensor& x, std::int64_t numel) {
  STD_TORCH_CHECK(
      tensor.scalar_type() == accumulate_type(x) && tensor.numel() == numel,
      "a result of the forward pass has changed");
  return torch::stable::contiguous(tensor);
}

// Returns log_prob, which has no elements under kNone, and component_log_prob.
std::tuple<Tensor, Tensor> empty_results(const Inputs& in) {
  const bool mixed = in.problem.mixture != Mixture::kNone;
  const ScalarType dtype = accumulate_type(in.x);
  return {empty_if(mixed, in.x, in.samples, dtype),
          empty(in.x, with(in.samples, in.problem.components), dtype)};
}

GmmForward forward_problem(const Inputs& in, const Tensor& log_prob,
                           const Tensor& component_log_prob,
                           bool keeps_components) {
  return {in.problem,
          pointer_if(in.problem.mixture != Mixture::kNone, log_prob),
          component_log_prob.mutable_data_ptr(), keeps_components};
}

std::tuple<Tensor, Tensor> gmm_forward(Tensor x, Tensor logits, Tensor mu,
                                       Tensor scale, std::int64_t scale_param,
                                       double min_std, std::int64_t mixture,
                                       bool keeps_components) {
  const Inputs in =
      read_inputs(x, logits, mu, scale, {scale_param, min_std, mixture});
  auto [log_prob, component_log_prob] = empty_results(in);
  run_kernel(
      x, forward_problem(in, log_prob, component_log_prob, keeps_components),
      gmm_cpu_kernels_in_use().forward, VTADL_CUDA_KERNEL(gmm_forward_cuda));
  if (!keeps_components) component_log_prob = empty(x, {0}, accumulate_type(x));
  return {log_prob, component_log_prob};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gmm_backward(
    Tensor grad, Tensor log_prob, Tensor component_log_prob, Tensor x,
    Tensor logits, Tensor mu, Tensor scale, std::int64_t scale_param,
    double min_std, std::int64_t mixture, bool needs_x, bool needs_logits,
    bool needs_mu, bool needs_scale) {
  const Inputs in =
      read_inputs(x, logits, mu, scale, {scale_param, min_std, mixture});
  const GmmProblem& p = in.problem;
  const Needs needs{needs_x, needs_logits, needs_mu, needs_scale};
  const bool mixed = p.mixture != Mixture::kNone;
  grad = accumulated(grad, x, p.samples * (mixed ? 1 : p.components));
  log_prob = accumulated(log_prob, x, mixed ? p.samples : 0);
  component_log_prob =
      accumulated(component_log_prob, x, p.samples * p.components);
  const Grads grads(in, needs);
  run_kernel(x,
             backward_problem(in, grad.const_data_ptr(), 0, log_prob,
                              component_log_prob, grads, needs),
             gmm_cpu_kernels_in_use().backward,
             VTADL_CUDA_KERNEL(gmm_backward_cuda));
  return {grads.x, grads.logits, grads.mu, grads.scale};
}

// Returns log_prob and the gradients of grad · Σ log_prob.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> gmm_forward_backward(
    double grad, Tensor x, Tensor logits, Tensor mu, Tensor scale,
    std::int64_t scale_param, double min_std, std::int64_t mixture,
    bool needs_x, bool needs_logits, bool needs_mu, bool needs_scale) {
  const Inputs in =
      read_inputs(x, logits, mu, scale, {scale_param, min_std, mixture});
  STD_TORCH_CHECK(in.problem.mixture != Mixture::kNone, "bad mixture");
  const Needs needs{needs_x, needs_logits, needs_mu, needs_scale};
  const auto [log_prob, component_log_prob] = empty_results(in);
  const Grads grads(in, needs);
  run_kernel(x,
             GmmForwardBackward{
                 forward_problem(in, log_prob, component_log_prob, false),
                 backward_problem(in, nullptr, grad, log_prob,
                                  component_log_prob, grads, needs)},
             gmm_cpu_kernels_in_use().forward_backward,
             VTADL_CUDA_KERNEL(gmm_forward_backward_cuda));
  return {log_prob, grads.x, grads.logits, grads.mu, grads.scale};
}

// Checks that the gradient of a parameter may replace it. Where nothing is
// shared, kernels write an element of the gradients of mu and scale only after
// they have read the same element of both for the last time.
void check_own(const Tensor& tensor, const GmmParameter& parameter,
               const GmmProblem& p, const char* name) {
  STD_TORCH_CHECK(
      tensor.is_contiguous() && parameter.rows.repeats == 1 &&
          parameter.components == p.components && parameter.size == p.features,
      name,
      " must be contiguous, with elements for each sample, component and "
      "feature, for its gradient to replace it");
}

// Returns log_prob and the gradients of Σ grad · log_prob with respect to x and
// the logits; overwrites mu and scale with theirs.
std::tuple<Tensor, Tensor, Tensor> gmm_forward_backward_in_place(
    Tensor grad, Tensor x, Tensor logits, Tensor mu, Tensor scale,
    std::int64_t scale_param, double min_std, std::int64_t mixture,
    bool needs_x) {
  const Inputs in =
      read_inputs(x, logits, mu, scale, {scale_param, min_std, mixture});
  const GmmProblem& p = in.problem;
  STD_TORCH_CHECK(p.mixture != Mixture::kNone, "bad mixture");
  STD_TORCH_CHECK(p.scale_param != ScaleParam::kTril, "bad scale_param");
  check_own(mu, p.mu, p, "mu");
  check_own(scale, p.scale, p, "scale");
  grad = accumulated(grad, x, p.samples);
  const auto [log_prob, component_log_prob] = empty_results(in);
  const Grads grads(in, {needs_x, true, false, false});
  GmmBackward backward = backward_problem(in, grad.const_data_ptr(), 0,
                                          log_prob, component_log_prob, grads,
                                          {needs_x, true, false, false});
  backward.grad_mu = mu.mutable_data_ptr();
  backward.grad_scale = scale.mutable_data_ptr();
  run_kernel(
      x,
      GmmForwardBackward{
          forward_problem(in, log_prob, component_log_prob, false), backward},
      gmm_cpu_kernels_in_use().forward_backward,
      VTADL_CUDA_KERNEL(gmm_forward_backward_cuda));
  return {log_prob, grads.x, grads.logits};
}

}  // namespace
}  // namespace vtadl

STABLE_TORCH_LIBRARY_FRAGMENT(VTADL_LIBRARY, m) {
  m.def(
      "gmm_forward(Tensor x, Tensor logits, Tensor mu, Tensor scale, "
      "int scale_param, float min_std, int mixture, "
      "bool keeps_components=True) -> "
      "(Tensor log_prob, Tensor component_log_prob)");
  m.def(
      "gmm_backward(Tensor grad, Tensor log_prob, Tensor component_log_prob, "
      "Tensor x, Tensor logits, Tensor mu, Tensor scale, int scale_param, "
      "float min_std, int mixture, bool needs_x, bool needs_logits, "
      "bool needs_mu, bool needs_scale) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "gmm_forward_backward(float grad, Tensor x, Tensor logits, Tensor mu, "
      "Tensor scale, int scale_param, float min_std, int mixture, "
      "bool needs_x, bool needs_logits, bool needs_mu, bool needs_scale) -> "
      "(Tensor log_prob, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "gmm_forward_backward_(Tensor grad, Tensor x, Tensor logits, "
      "Tensor(a!) mu, Tensor(b!) scale, int scale_param, float min_std, "
      "int mixture, bool needs_x) -> (Tensor log_prob, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(VTADL_LIBRARY, CPU, m) {
  m.impl("gmm_forward", TORCH_BOX(&vtadl::gmm_forward));
  m.impl("gmm_backward", TORCH_BOX(&vtadl::gmm_backward));
  m.impl("gmm_forward_backward", TORCH_BOX(&vtadl::gmm_forward_backward));
  m.impl("gmm_forward_backward_",
         TORCH_BOX(&vtadl::gmm_forward_backward_in_place));
}

#ifdef VTADL_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(VTADL_LIBRARY, CUDA, m) {
  m.impl("gmm_forward", TORCH_BOX(&vtadl::gmm_forward));
  m.impl("gmm_backward", TORCH_BOX(&vtadl::gmm_backward));
  m.impl("gmm_forward_backward", TORCH_BOX(&vtadl::gmm_forward_backward));
  m.impl("gmm_forward_backward_",
         TORCH_BOX(&vtadl::gmm_forward_backward_in_place));
}
#endif
