// The CUDA kernels in the place of the CPU kernels: on copies of the arrays in
// the memory of the device.
#include <vector>

#include "common/cpu_dispatch.h"
#include "common/launch.h"
#include "gmm/gmm.h"
#include "ssim/ssim.h"

namespace vtadl {

CpuCapability cpu_capability() { return CpuCapability::kBaseline; }

namespace {

// Copies of host arrays; take_back() fetches what the kernels wrote.
class DeviceMemory {
 public:
  DeviceMemory(DType dtype) : value_bytes_(dtype == DType::kFloat64 ? 8 : 4) {}
  ~DeviceMemory() {
    for (const Copy& copy : copies_) cudaFree(copy.device);
  }

  // Points at the copy instead. A null pointer stays one.
  void copy(const void*& array, std::int64_t count) {
    array = add(const_cast<void*>(array), count, false);
  }
  void copy_result(void*& array, std::int64_t count) {
    array = add(array, count, true);
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

  void* add(void* host, std::int64_t count, bool is_result) {
    if (host == nullptr) return nullptr;
    Copy copy{host, nullptr, count * value_bytes_, is_result};
    check_cuda(cudaMalloc(&copy.device, copy.bytes), "cudaMalloc");
    copies_.push_back(copy);
    check_cuda(
        cudaMemcpy(copy.device, host, copy.bytes, cudaMemcpyHostToDevice),
        "the kernels' arguments");
    return copy.device;
  }

  const std::size_t value_bytes_;
  std::vector<Copy> copies_;
};

void copy_inputs(GmmProblem& p, DeviceMemory& memory) {
  memory.copy(p.x, p.x_rows.rows * p.features);
  memory.copy(p.logits, p.logits_rows.rows * p.components);
  memory.copy(p.mu, p.mu_rows.rows * p.components * p.mu_features);
  memory.copy(p.scale, p.scale_rows.rows * p.components * p.scale_features);
}

void gmm_forward(const GmmForward& problem) {
  GmmForward p = problem;
  DeviceMemory memory(p.dtype);
  copy_inputs(p, memory);
  memory.copy_result(p.log_prob, p.samples);
  memory.copy_result(p.component_log_prob, p.samples * p.components);
  gmm_forward_cuda(p, nullptr);
  memory.take_back();
}

void gmm_backward(const GmmBackward& problem) {
  GmmBackward p = problem;
  DeviceMemory memory(p.dtype);
  copy_inputs(p, memory);
  memory.copy(p.grad, p.samples);
  memory.copy(p.log_prob, p.samples);
  memory.copy(p.component_log_prob, p.samples * p.components);
  memory.copy_result(p.weight, p.samples * p.components);
  memory.copy_result(p.grad_x, p.samples * p.features);
  memory.copy_result(p.grad_logits, p.samples * p.components);
  memory.copy_result(p.grad_mu, p.mu_rows.rows * p.components * p.mu_features);
  memory.copy_result(p.grad_scale,
                     p.scale_rows.rows * p.components * p.scale_features);
  gmm_backward_cuda(p, nullptr);
  memory.take_back();
}

void ssim_forward(const SsimForward& problem) {
  SsimForward p = problem;
  DeviceMemory memory(p.dtype);
  memory.copy(p.x, p.planes * p.height * p.width);
  memory.copy(p.y, p.planes * p.height * p.width);
  memory.copy_result(p.map, p.planes * p.map_height() * p.map_width());
  memory.copy_result(p.tile_sums, p.planes * p.tile_rows() * p.tile_columns());
  ssim_forward_cuda(p, nullptr);
  memory.take_back();
}

void ssim_backward(const SsimBackward& problem) {
  SsimBackward p = problem;
  DeviceMemory memory(p.dtype);
  const std::int64_t windows = p.map_height() * p.map_width();
  memory.copy(p.x, p.planes * p.height * p.width);
  memory.copy(p.y, p.planes * p.height * p.width);
  memory.copy(p.grad, p.planes * (p.grad_of_map ? windows : 1));
  memory.copy_result(p.grad_x, p.planes * p.height * p.width);
  memory.copy_result(p.grad_y, p.planes * p.height * p.width);
  ssim_backward_cuda(p, nullptr);
  memory.take_back();
}

}  // namespace

namespace baseline {

extern const GmmCpuKernels gmm_cpu_kernels = {&gmm_forward, &gmm_backward};
extern const SsimCpuKernels ssim_cpu_kernels = {&ssim_forward, &ssim_backward};

}  // namespace baseline
}  // namespace vtadl
