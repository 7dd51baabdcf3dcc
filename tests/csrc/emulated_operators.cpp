// The emulated CUDA kernels take the place of the CPU kernels in the operators.
#include "common/cpu_dispatch.h"
#include "gmm/gmm.h"
#include "scale/scale.h"
#include "ssim/ssim.h"

namespace vtadl {

CpuCapability cpu_capability() { return CpuCapability::kBaseline; }

namespace baseline {

extern const GmmCpuKernels gmm_cpu_kernels = {
    [](const GmmForward& p) { gmm_forward_cuda(p, nullptr); },
    [](const GmmBackward& p) { gmm_backward_cuda(p, nullptr); },
    [](const GmmForwardBackward& p) { gmm_forward_backward_cuda(p, nullptr); }};

extern const ScaleCpuKernels scale_cpu_kernels = {
    [](const ScaleProblem& p) { scale_cuda(p, nullptr); }};

extern const SsimCpuKernels ssim_cpu_kernels = {
    &ssim_parts_cuda,
    [](const SsimForward& p) { ssim_forward_cuda(p, nullptr); },
    [](const SsimBackward& p) { ssim_backward_cuda(p, nullptr); },
    [](const SsimForwardBackward& p) {
      ssim_forward_backward_cuda(p, nullptr);
    },
    [](const SsimTotal& p) { ssim_total_cuda(p, nullptr); }};

}  // namespace baseline
}  // namespace vtadl
