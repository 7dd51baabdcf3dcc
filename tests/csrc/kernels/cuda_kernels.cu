// The CUDA kernels take the place of the CPU kernels in the tests. They run on
// copies of the arrays in the memory of the device.
#include <vector>

#include "common/cpu_dispatch.h"
#include "common/launch.h"
#include "gmm/gmm.h"
#include "scale/scale.h"
#include "ssim/ssim.h"

namespace vtadl {

CpuCapability cpu_capability() { return CpuCapability::kBaseline; }

namespace {

// Copies of host arrays on the device. take_back() fetches the results.
class DeviceMemory {
 public:
  explicit DeviceMemory(DType dtype) {
    dispatch(dtype, [&](auto zero) {
      value_bytes_ = sizeof zero;
      sum_bytes_ = sizeof(Accumulate<decltype(zero)>);
    });
  }
  ~DeviceMemory() {
    for (const Copy& copy : copies_) cudaFree(copy.device);
  }

  // Copies an array, and makes the pointer point at the copy. A null pointer
  // stays null.
  void copy(const void*& array, std::int64_t count) {
    array = add(const_cast<void*>(array), count * value_bytes_, false);
  }
  void copy_result(void*& array, std::int64_t count) {
    array = add(array, count * value_bytes_, true);
  }

  void copy_mask(const bool*& array, std::int64_t count) {
    array = static_cast<bool*>(
        add(const_cast<bool*>(array), count * sizeof(bool), false));
  }

  // These do the same for arrays of the type in which sums are kept.
  void copy_given_sums(const void*& array, std::int64_t count) {
    array = add(const_cast<void*>(array), count * sum_bytes_, false);
  }
  void copy_sums(void*& array, std::int64_t count) {
    array = add(array, count * sum_bytes_, true);
  }

  void take_back() const {
    for (const Copy& copy : copies_) {
      if (!copy.is_result) continue;
      check_cuda(cudaMemcpy(copy.host, copy.device, copy.bytes,
                            cudaMemcpyDeviceToHost),
                 "the kernels' results");
    }
  }

 private:
  struct Copy {
    void* host;
    void* device;
    std::size_t bytes;
    bool is_result;
  };

  void* add(void* host, std::size_t bytes, bool is_result) {
    if (host == nullptr) return nullptr;
    Copy copy{host, nullptr, bytes, is_result};
    check_cuda(cudaMalloc(&copy.device, copy.bytes), "cudaMalloc");
    copies_.push_back(copy);
    check_cuda(
        cudaMemcpy(copy.device, host, copy.bytes, cudaMemcpyHostToDevice),
        "the kernels' arguments");
    return copy.device;
  }

  std::size_t value_bytes_ = 0, sum_bytes_ = 0;
  std::vector<Copy> copies_;
};

void copy_inputs(GmmProblem& p, DeviceMemory& memory) {
  memory.copy(p.x, p.x_rows.rows * p.features);
  memory.copy(p.logits, p.logits_rows.rows * p.components);
  memory.copy(p.mu.data, p.mu.numel());
  memory.copy(p.scale.data, p.scale.numel());
}

void copy_results(GmmForward& p, DeviceMemory& memory) {
  memory.copy_sums(p.log_prob, p.samples);
  memory.copy_sums(p.component_log_prob, p.samples * p.components);
}

void copy_results(GmmBackward& p, DeviceMemory& memory) {
  memory.copy_sums(p.grad_log_normal, p.samples * p.components);
  memory.copy_sums(p.grad_x, p.samples * p.features);
  memory.copy_sums(p.grad_logits, p.samples * p.components);
  memory.copy_result(p.grad_mu, p.mu.numel());
  memory.copy_result(p.grad_scale, p.scale.numel());
}

void copy(GmmForward& p, DeviceMemory& memory) {
  copy_inputs(p, memory);
  copy_results(p, memory);
}

void copy(GmmBackward& p, DeviceMemory& memory) {
  const bool mixed = p.mixture != Mixture::kNone;
  copy_inputs(p, memory);
  memory.copy_given_sums(p.grad, p.samples * (mixed ? 1 : p.components));
  memory.copy_given_sums(p.log_prob, p.samples);
  memory.copy_given_sums(p.component_log_prob, p.samples * p.components);
  copy_results(p, memory);
}

void copy(GmmForwardBackward& p, DeviceMemory& memory) {
  copy(p.forward, memory);
  static_cast<GmmProblem&>(p.backward) = p.forward;
  p.backward.log_prob = p.forward.log_prob;
  p.backward.component_log_prob = p.forward.component_log_prob;
  copy_results(p.backward, memory);
}

void copy(ScaleProblem& p, DeviceMemory& memory) {
  memory.copy_result(p.values, p.count);
  memory.copy_given_sums(p.factor, 1);
}

// The number of elements from the first to the last that the strides reach.
std::int64_t extent(const SsimProblem& p, const ImageStrides& strides) {
  return (p.batch - 1) * strides.batch + (p.channels - 1) * strides.channel +
         (p.height - 1) * strides.row + (p.width - 1) * strides.column + 1;
}

void copy_inputs(SsimProblem& p, DeviceMemory& memory) {
  memory.copy(p.x, extent(p, p.x_strides));
  memory.copy(p.y, extent(p, p.y_strides));
  memory.copy_mask(p.mask, extent(p, p.mask_strides));
}

void copy_results(SsimForward& p, DeviceMemory& memory) {
  memory.copy_sums(p.map, p.planes() * p.map_height() * p.map_width());
  memory.copy_sums(p.sums, p.planes() * ssim_parts_cuda(p) * SsimSums::kCount);
}

void copy_results(SsimBackward& p, DeviceMemory& memory) {
  memory.copy_result(p.grad_x, extent(p, p.grad_x_strides));
  memory.copy_result(p.grad_y, extent(p, p.grad_y_strides));
}

void copy(SsimForward& p, DeviceMemory& memory) {
  copy_inputs(p, memory);
  copy_results(p, memory);
}

void copy(SsimBackward& p, DeviceMemory& memory) {
  const std::int64_t windows = p.map_height() * p.map_width();
  copy_inputs(p, memory);
  memory.copy_given_sums(
      p.grad, p.planes() * (p.grad_of_map ? windows : SsimSums::kCount));
  copy_results(p, memory);
}

void copy(SsimForwardBackward& p, DeviceMemory& memory) {
  copy(p.forward, memory);
  static_cast<SsimProblem&>(p.backward) = p.forward;
  copy_results(p.backward, memory);
}

void copy(SsimTotal& p, DeviceMemory& memory) {
  memory.copy_given_sums(p.of_parts, p.parts * SsimSums::kCount);
  memory.copy_sums(p.total, 1);
  memory.copy_sums(p.sums, SsimSums::kCount);
}

// The element type of a problem, or of a pair of both passes.
template <typename Problem>
auto dtype_of(const Problem& p) -> decltype(p.dtype) {
  return p.dtype;
}
template <typename Problem>
auto dtype_of(const Problem& p) -> decltype(p.forward.dtype) {
  return p.forward.dtype;
}

// Runs a kernel on copies of the problem's arrays.
template <typename Problem, void (*kKernel)(const Problem&, void* stream)>
void run_on_copies(const Problem& problem) {
  Problem p = problem;
  DeviceMemory memory(dtype_of(p));
  copy(p, memory);
  kKernel(p, nullptr);
  memory.take_back();
}

}  // namespace

namespace baseline {

extern const GmmCpuKernels gmm_cpu_kernels = {
    &run_on_copies<GmmForward, &gmm_forward_cuda>,
    &run_on_copies<GmmBackward, &gmm_backward_cuda>,
    &run_on_copies<GmmForwardBackward, &gmm_forward_backward_cuda>};
extern const ScaleCpuKernels scale_cpu_kernels = {
    &run_on_copies<ScaleProblem, &scale_cuda>};
extern const SsimCpuKernels ssim_cpu_kernels = {
    &ssim_parts_cuda, &run_on_copies<SsimForward, &ssim_forward_cuda>,
    &run_on_copies<SsimBackward, &ssim_backward_cuda>,
    &run_on_copies<SsimForwardBackward, &ssim_forward_backward_cuda>,
    &run_on_copies<SsimTotal, &ssim_total_cuda>};

}  // namespace baseline
}  // namespace vtadl
