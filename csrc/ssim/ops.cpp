// The SSIM operators: schemas, argument checks, dispatch.
#include <algorithm>
#include <optional>
#include <tuple>

#include "common/cpu_dispatch.h"
#include "common/device.h"
#include "ssim/ssim.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(SsimCpuKernels, ssim_cpu_kernels)

namespace {

using MaybeTensor = std::optional<Tensor>;

// The arguments behind the tensors, which all operators share.
struct Options {
  std::vector<double> vertical, horizontal;
  double data_range, k1, k2;
  bool bordered;
  std::int64_t component;
};

Shape shape_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return Shape(sizes.begin(), sizes.end());
}

ImageStrides strides_of(const Tensor& images) {
  return {images.stride(0), images.stride(1), images.stride(2),
          images.stride(3)};
}

void check_images(const Tensor& x, const Tensor& y, const MaybeTensor& mask) {
  check_alike(y, x, "y");
  STD_TORCH_CHECK(x.dim() == 4 && shape_of(x) == shape_of(y),
                  "x and y must be images of the same shape [N, C, H, W]");
  if (!mask) return;
  STD_TORCH_CHECK(
      mask->scalar_type() == ScalarType::Bool && shape_of(*mask) == shape_of(x),
      "mask must be a bool tensor of the images' shape");
  STD_TORCH_CHECK(mask->is_cuda() == x.is_cuda() &&
                      mask->get_device_index() == x.get_device_index(),
                  "mask and x lie on different devices");
}

SsimTaps taps_of(const std::vector<double>& weights) {
  STD_TORCH_CHECK(weights.size() % 2 == 1 && weights.size() <= SsimTaps::kMost,
                  "the window must have an odd number of weights up to ",
                  SsimTaps::kMost);
  SsimTaps taps{};
  taps.count = static_cast<int>(weights.size());
  std::copy(weights.begin(), weights.end(), taps.weights);
  return taps;
}

SsimComponent component_of(std::int64_t component) {
  STD_TORCH_CHECK(component >= 0 && component <= 2,
                  "the component must be from 0 to 2");
  return static_cast<SsimComponent>(component);
}

SsimProblem problem_of(const Tensor& x, const Tensor& y,
                       const MaybeTensor& mask, const Options& options) {
  check_images(x, y, mask);
  SsimProblem p{};
  p.bytes = x.scalar_type() == ScalarType::Byte;
  p.dtype = p.bytes ? DType::kFloat32 : dtype_of(x);
  p.batch = x.size(0);
  p.channels = x.size(1);
  p.height = x.size(2);
  p.width = x.size(3);
  p.vertical = taps_of(options.vertical);
  p.horizontal = taps_of(options.horizontal);
  p.border_rows = options.bordered ? p.vertical.count / 2 : 0;
  p.border_columns = options.bordered ? p.horizontal.count / 2 : 0;
  STD_TORCH_CHECK(p.map_height() > 0 && p.map_width() > 0,
                  "the images are smaller than the window");
  p.data_range = options.data_range;
  p.k1 = options.k1;
  p.k2 = options.k2;
  p.component = component_of(options.component);
  p.x = x.const_data_ptr();
  p.y = y.const_data_ptr();
  p.x_strides = strides_of(x);
  p.y_strides = strides_of(y);
  if (mask) {
    p.mask = static_cast<const bool*>(mask->const_data_ptr());
    p.mask_strides = strides_of(*mask);
  }
  return p;
}

// The shape of the sums of all planes.
Shape sums_shape(const SsimProblem& p) {
  return {p.batch, p.channels, SsimSums::kCount};
}

std::int64_t parts_of_a_plane(const Tensor& x, const SsimProblem& p) {
#ifdef VTADL_WITH_CUDA
  if (!x.is_cpu()) {
    const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
    return ssim_parts_cuda(p);  // depends on the current device
  }
#endif
  (void)x;
  return ssim_cpu_kernels_in_use().parts(p);
}

// The sums of a plane's parts; sum_of_parts() adds them up.
Tensor empty_parts(const Tensor& x, const SsimProblem& p) {
  return empty(x,
               {p.batch, p.channels, parts_of_a_plane(x, p), SsimSums::kCount},
               accumulate_type(x));
}

Tensor sum_of_parts(const Tensor& parts) {
  return torch::stable::sum(parts, Shape{2});
}

// Returns Σ weights · sums over all planes, and the sums.
std::tuple<Tensor, Tensor> total_of_parts(const Tensor& x, const Tensor& parts,
                                          const std::vector<double>& weights) {
  const Tensor total = empty(x, {}, accumulate_type(x));
  const Tensor sums = empty(x, {SsimSums::kCount}, accumulate_type(x));
  SsimTotal p{};
  p.dtype = dtype_of(parts);
  p.parts = parts.numel() / SsimSums::kCount;
  p.of_parts = parts.const_data_ptr();
  std::copy(weights.begin(), weights.end(), p.weights);
  p.total = total.mutable_data_ptr();
  p.sums = sums.mutable_data_ptr();
  run_kernel(x, p, ssim_cpu_kernels_in_use().total,
             VTADL_CUDA_KERNEL(ssim_total_cuda));
  return {total, sums};
}

void check_weights(const std::vector<double>& weights, const char* name) {
  STD_TORCH_CHECK(weights.size() == SsimSums::kCount, name,
                  " must have a number for each of the sums");
}

// Memory for the gradients, laid out like the images.
struct Grads {
  Tensor x, y;

  Grads(const Tensor& x, bool needs_x, const Tensor& y, bool needs_y)
      : x(empty_grad(x, needs_x)), y(empty_grad(y, needs_y)) {}

  SsimBackward problem(const SsimProblem& p, bool errors) const {
    STD_TORCH_CHECK(!p.bytes, "images of bytes have no gradients");
    SsimBackward backward{};
    static_cast<SsimProblem&>(backward) = p;
    backward.errors = errors;
    if (x.dim() == 4) {
      backward.grad_x = x.mutable_data_ptr();
      backward.grad_x_strides = strides_of(x);
    }
    if (y.dim() == 4) {
      backward.grad_y = y.mutable_data_ptr();
      backward.grad_y_strides = strides_of(y);
    }
    return backward;
  }

 private:
  static Tensor empty_grad(const Tensor& images, bool needed) {
    return needed ? torch::stable::empty_like(images)
                  : empty(images, {0}, images.scalar_type());
  }
};

Tensor ssim_forward(Tensor x, Tensor y, MaybeTensor mask,
                    std::vector<double> vertical,
                    std::vector<double> horizontal, double data_range,
                    double k1, double k2, bool bordered, std::int64_t component,
                    bool map, bool errors) {
  const SsimProblem p = problem_of(
      x, y, mask,
      {vertical, horizontal, data_range, k1, k2, bordered, component});
  Tensor result =
      map ? empty(x, {p.batch, p.channels, p.map_height(), p.map_width()},
                  accumulate_type(x))
          : empty_parts(x, p);
  run_kernel(
      x,
      SsimForward{p, pointer_if(map, result), pointer_if(!map, result), errors},
      ssim_cpu_kernels_in_use().forward, VTADL_CUDA_KERNEL(ssim_forward_cuda));
  return map ? result : sum_of_parts(result);
}

std::tuple<Tensor, Tensor> ssim_backward(
    Tensor grad, Tensor x, Tensor y, MaybeTensor mask,
    std::vector<double> vertical, std::vector<double> horizontal,
    double data_range, double k1, double k2, bool bordered,
    std::int64_t component, bool map, bool errors, bool needs_x, bool needs_y) {
  const SsimProblem p = problem_of(
      x, y, mask,
      {vertical, horizontal, data_range, k1, k2, bordered, component});
  const Shape wanted =
      map ? Shape{p.batch, p.channels, p.map_height(), p.map_width()}
          : sums_shape(p);
  STD_TORCH_CHECK(
      grad.scalar_type() == accumulate_type(x) && shape_of(grad) == wanted,
      "grad does not fit the result of the forward pass");
  grad = torch::stable::contiguous(grad);
  const Grads grads(x, needs_x, y, needs_y);
  SsimBackward backward = grads.problem(p, errors);
  backward.grad = grad.const_data_ptr();
  backward.grad_of_map = map;
  run_kernel(x, backward, ssim_cpu_kernels_in_use().backward,
             VTADL_CUDA_KERNEL(ssim_backward_cuda));
  return {grads.x, grads.y};
}

// Returns Σ weights · sums over all planes, and the sums.
std::tuple<Tensor, Tensor> ssim_total(std::vector<double> weights, Tensor x,
                                      Tensor y, MaybeTensor mask,
                                      std::vector<double> vertical,
                                      std::vector<double> horizontal,
                                      double data_range, double k1, double k2,
                                      bool bordered, std::int64_t component,
                                      bool errors) {
  check_weights(weights, "weights");
  const SsimProblem p = problem_of(
      x, y, mask,
      {vertical, horizontal, data_range, k1, k2, bordered, component});
  const Tensor parts = empty_parts(x, p);
  run_kernel(x, SsimForward{p, nullptr, parts.mutable_data_ptr(), errors},
             ssim_cpu_kernels_in_use().forward,
             VTADL_CUDA_KERNEL(ssim_forward_cuda));
  return total_of_parts(x, parts, weights);
}

// Returns Σ grad · sums over all planes, the sums, and the gradients of both
// images.
std::tuple<Tensor, Tensor, Tensor, Tensor> ssim_forward_backward(
    std::vector<double> grad, Tensor x, Tensor y, MaybeTensor mask,
    std::vector<double> vertical, std::vector<double> horizontal,
    double data_range, double k1, double k2, bool bordered,
    std::int64_t component, bool errors, bool needs_x, bool needs_y) {
  check_weights(grad, "grad");
  const SsimProblem p = problem_of(
      x, y, mask,
      {vertical, horizontal, data_range, k1, k2, bordered, component});
  const Tensor parts = empty_parts(x, p);
  const Grads grads(x, needs_x, y, needs_y);
  SsimBackward backward = grads.problem(p, errors);
  std::copy(grad.begin(), grad.end(), backward.constant_grad);
  run_kernel(
      x,
      SsimForwardBackward{
          SsimForward{p, nullptr, parts.mutable_data_ptr(), errors}, backward},
      ssim_cpu_kernels_in_use().forward_backward,
      VTADL_CUDA_KERNEL(ssim_forward_backward_cuda));
  const auto [total, sums] = total_of_parts(x, parts, grad);
  return {total, sums, grads.x, grads.y};
}

}  // namespace
}  // namespace vtadl

STABLE_TORCH_LIBRARY_FRAGMENT(VTADL_LIBRARY, m) {
  m.def(
      "ssim_forward(Tensor x, Tensor y, Tensor? mask, float[] vertical, "
      "float[] horizontal, float data_range, float k1, float k2, "
      "bool bordered, int component, bool map, bool errors) -> Tensor");
  m.def(
      "ssim_total(float[] weights, Tensor x, Tensor y, Tensor? mask, "
      "float[] vertical, float[] horizontal, float data_range, float k1, "
      "float k2, bool bordered, int component, bool errors) -> "
      "(Tensor total, Tensor sums)");
  m.def(
      "ssim_backward(Tensor grad, Tensor x, Tensor y, Tensor? mask, "
      "float[] vertical, float[] horizontal, float data_range, float k1, "
      "float k2, bool bordered, int component, bool map, bool errors, "
      "bool needs_x, bool needs_y) -> (Tensor, Tensor)");
  m.def(
      "ssim_forward_backward(float[] grad, Tensor x, Tensor y, Tensor? mask, "
      "float[] vertical, float[] horizontal, float data_range, float k1, "
      "float k2, bool bordered, int component, bool errors, bool needs_x, "
      "bool needs_y) -> (Tensor total, Tensor sums, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(VTADL_LIBRARY, CPU, m) {
  m.impl("ssim_forward", TORCH_BOX(&vtadl::ssim_forward));
  m.impl("ssim_total", TORCH_BOX(&vtadl::ssim_total));
  m.impl("ssim_backward", TORCH_BOX(&vtadl::ssim_backward));
  m.impl("ssim_forward_backward", TORCH_BOX(&vtadl::ssim_forward_backward));
}

#ifdef VTADL_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(VTADL_LIBRARY, CUDA, m) {
  m.impl("ssim_forward", TORCH_BOX(&vtadl::ssim_forward));
  m.impl("ssim_total", TORCH_BOX(&vtadl::ssim_total));
  m.impl("ssim_backward", TORCH_BOX(&vtadl::ssim_backward));
  m.impl("ssim_forward_backward", TORCH_BOX(&vtadl::ssim_forward_backward));
}
#endif
