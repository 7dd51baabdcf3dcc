// The SSIM operators: schemas, argument checks, dispatch.
#include <algorithm>
#include <tuple>

#include "common/cpu_dispatch.h"
#include "common/device.h"
#include "ssim/ssim.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(SsimCpuKernels, ssim_cpu_kernels)

namespace {

SsimProblem problem_of(const Tensor& x, const Tensor& y,
                       const std::vector<double>& window, double c1,
                       double c2) {
  check_alike(y, x, "y");
  STD_TORCH_CHECK(
      x.dim() >= 2 && x.dim() == y.dim() &&
          std::equal(x.sizes().begin(), x.sizes().end(), y.sizes().begin()),
      "x and y must be images of the same shape");
  const auto taps = static_cast<std::int64_t>(window.size());
  STD_TORCH_CHECK(taps % 2 == 1 && taps <= SsimProblem::kMaxTaps,
                  "the window must have an odd number of weights up to ",
                  SsimProblem::kMaxTaps);
  STD_TORCH_CHECK(x.size(-2) >= taps && x.size(-1) >= taps,
                  "the images are smaller than the window");
  SsimProblem p;
  p.dtype = dtype_of(x);
  p.height = x.size(-2);
  p.width = x.size(-1);
  p.planes = x.numel() / (p.height * p.width);
  p.taps = static_cast<int>(taps);
  std::copy(window.begin(), window.end(), p.window);
  p.c1 = c1;
  p.c2 = c2;
  p.x = x.const_data_ptr();
  p.y = y.const_data_ptr();
  return p;
}

Shape leading(const Tensor& image) {
  const auto sizes = image.sizes();
  return Shape(sizes.begin(), sizes.end() - 2);
}

Shape with(Shape shape, const Shape& last) {
  shape.insert(shape.end(), last.begin(), last.end());
  return shape;
}

// The map, or its sum over each plane.
Tensor ssim_forward(Tensor x, Tensor y, std::vector<double> window, double c1,
                    double c2, bool map) {
  x = torch::stable::contiguous(x);
  y = torch::stable::contiguous(y);
  const SsimProblem p = problem_of(x, y, window, c1, c2);
  const Shape last = map ? Shape{p.map_height(), p.map_width()}
                         : Shape{p.tile_rows() * p.tile_columns()};
  Tensor result = empty(x, with(leading(x), last), accumulate_type(x));
  run_kernel(
      x, SsimForward{p, pointer_if(map, result), pointer_if(!map, result)},
      ssim_cpu_kernels_in_use().forward, VTADL_CUDA_KERNEL(ssim_forward_cuda));
  return map ? result : torch::stable::sum(result, Shape{-1});
}

std::tuple<Tensor, Tensor> ssim_backward(Tensor grad, Tensor x, Tensor y,
                                         std::vector<double> window, double c1,
                                         double c2, bool map, bool needs_x,
                                         bool needs_y) {
  x = torch::stable::contiguous(x);
  y = torch::stable::contiguous(y);
  grad = torch::stable::contiguous(grad);
  const SsimProblem p = problem_of(x, y, window, c1, c2);
  STD_TORCH_CHECK(
      grad.scalar_type() == accumulate_type(x) &&
          grad.numel() == p.planes * (map ? p.map_height() * p.map_width() : 1),
      "grad does not fit the result of the forward pass");
  const Shape shape(x.sizes().begin(), x.sizes().end());
  Tensor grad_x = empty_if(needs_x, x, shape, x.scalar_type());
  Tensor grad_y = empty_if(needs_y, x, shape, x.scalar_type());
  run_kernel(
      x,
      SsimBackward{p, grad.const_data_ptr(), map, pointer_if(needs_x, grad_x),
                   pointer_if(needs_y, grad_y)},
      ssim_cpu_kernels_in_use().backward,
      VTADL_CUDA_KERNEL(ssim_backward_cuda));
  return {grad_x, grad_y};
}

}  // namespace
}  // namespace vtadl

STABLE_TORCH_LIBRARY_FRAGMENT(VTADL_LIBRARY, m) {
  m.def(
      "ssim_forward(Tensor x, Tensor y, float[] window, float c1, float c2, "
      "bool map) -> Tensor");
  m.def(
      "ssim_backward(Tensor grad, Tensor x, Tensor y, float[] window, "
      "float c1, float c2, bool map, bool needs_x, bool needs_y) -> "
      "(Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(VTADL_LIBRARY, CPU, m) {
  m.impl("ssim_forward", TORCH_BOX(&vtadl::ssim_forward));
  m.impl("ssim_backward", TORCH_BOX(&vtadl::ssim_backward));
}

#ifdef VTADL_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(VTADL_LIBRARY, CUDA, m) {
  m.impl("ssim_forward", TORCH_BOX(&vtadl::ssim_forward));
  m.impl("ssim_backward", TORCH_BOX(&vtadl::ssim_backward));
}
#endif
