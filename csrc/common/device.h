// run_kernel() runs a kernel on the device of the tensors.
#pragma once

#include <type_traits>

#include "common/tensor.h"

#ifdef VTADL_WITH_CUDA

// The function is weak, so that the library also loads with CPU builds of
// PyTorch, where it is null and never called.
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(std::int32_t device, void** stream);

#define VTADL_CUDA_KERNEL(FUNCTION) FUNCTION
#else
#define VTADL_CUDA_KERNEL(FUNCTION) nullptr
#endif

namespace vtadl {

// Template arguments are deduced from the problem alone, because a kernel may
// be a null pointer, which has no type of its own.
template <typename Problem>
using CpuKernel = std::common_type_t<void (*)(const Problem&)>;
template <typename Problem>
using CudaKernel = std::common_type_t<void (*)(const Problem&, void* stream)>;

// Runs the kernel on the device and the current stream of x.
template <typename Problem>
void run_kernel(const Tensor& x, const Problem& problem,
                CpuKernel<Problem> cpu_kernel,
                [[maybe_unused]] CudaKernel<Problem> cuda_kernel) {
  if (x.is_cpu()) return cpu_kernel(problem);
#ifdef VTADL_WITH_CUDA
  const std::int32_t device = x.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  void* stream = nullptr;
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(device, &stream) == 0,
                  "vtadl_ext: PyTorch has no current stream for the device");
  cuda_kernel(problem, stream);
#endif
}

}  // namespace vtadl
