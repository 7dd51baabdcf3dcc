// The operator scale_: schema, argument checks, dispatch.
#include "common/cpu_dispatch.h"
#include "common/device.h"
#include "scale/scale.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(ScaleCpuKernels, scale_cpu_kernels)

namespace {

// Whether the elements fill the memory between the first and the last of them.
bool is_dense(const Tensor& tensor) {
  std::int64_t extent = 1;
  for (std::int64_t d = 0; d < tensor.dim(); ++d) {
    extent += (tensor.size(d) - 1) * tensor.stride(d);
  }
  return tensor.numel() == 0 || extent == tensor.numel();
}

void scale_in_place(Tensor tensor, Tensor factor) {
  STD_TORCH_CHECK(is_dense(tensor), "the tensor must be dense");
  STD_TORCH_CHECK(
      factor.scalar_type() == accumulate_type(tensor) && factor.numel() == 1,
      "the factor must be one number of the accumulation type");
  STD_TORCH_CHECK(factor.is_cuda() == tensor.is_cuda() &&
                      factor.get_device_index() == tensor.get_device_index(),
                  "the tensor and the factor lie on different devices");
  run_kernel(tensor,
             ScaleProblem{dtype_of(tensor), tensor.numel(),
                          tensor.mutable_data_ptr(), factor.const_data_ptr()},
             scale_cpu_kernels_in_use().scale, VTADL_CUDA_KERNEL(scale_cuda));
}

}  // namespace
}  // namespace vtadl

STABLE_TORCH_LIBRARY_FRAGMENT(VTADL_LIBRARY, m) {
  m.def("scale_(Tensor(a!) tensor, Tensor factor) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(VTADL_LIBRARY, CPU, m) {
  m.impl("scale_", TORCH_BOX(&vtadl::scale_in_place));
}

#ifdef VTADL_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(VTADL_LIBRARY, CUDA, m) {
  m.impl("scale_", TORCH_BOX(&vtadl::scale_in_place));
}
#endif
