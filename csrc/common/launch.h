// Launches of CUDA kernels. No other place launches one.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace vtadl {

// The most blocks of a grid. Kernels loop where there is more to do.
constexpr std::int64_t kMaxBlocks = 1 << 30;

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;  // dynamic shared memory of a block
  unsigned cluster = 1;          // blocks that run at the same time
};

// What the user can do about an error, where that is known.
inline const char* remedy(cudaError_t status) {
  switch (status) {
    case cudaErrorNoKernelImageForDevice:
      return ": vtadl_ext was built for other GPUs; reinstall it with "
             "TORCH_CUDA_ARCH_LIST set to this one's compute capability";
    case cudaErrorInsufficientDriver:
    case cudaErrorUnsupportedPtxVersion:
      return ": vtadl_ext was built with a newer CUDA than the GPU's driver "
             "knows; update the driver, or reinstall it with an older nvcc";
    default:
      return "";
  }
}

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " +
                             cudaGetErrorString(status) + remedy(status));
  }
}

// An attribute of the current device.
inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&value, attribute, device),
             "cudaDeviceGetAttribute");
  return value;
}

inline std::int64_t multiprocessors() {
  return device_attribute(cudaDevAttrMultiProcessorCount);
}

// Bytes of dynamic shared memory that a block may have.
inline std::size_t max_shared_bytes() {
  return static_cast<std::size_t>(
      device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

// The description of a launch for CUDA. It cannot be copied, because it points
// into itself.
struct LaunchConfig {
  cudaLaunchAttribute cluster{};
  cudaLaunchConfig_t config{};

  LaunchConfig(const LaunchShape& shape, void* stream) {
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {shape.cluster, 1, 1};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = static_cast<cudaStream_t>(stream);
    config.attrs = &cluster;
    config.numAttrs = shape.cluster > 1 ? 1 : 0;
  }
  LaunchConfig(const LaunchConfig&) = delete;
  LaunchConfig& operator=(const LaunchConfig&) = delete;
};

// Allows the kernel so much dynamic shared memory in a block. A limited amount
// is allowed anyway.
template <typename... Params>
void allow_shared_bytes(const char* name, void (*kernel)(Params...),
                        std::size_t bytes) {
  constexpr std::size_t kAllowedAnyway = 48 * 1024;
  if (bytes <= kAllowedAnyway) return;
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(bytes)),
      name);
}

template <typename... Params, typename... Args>
void launch(const char* name, void (*kernel)(Params...),
            const LaunchShape& shape, void* stream, Args... args) {
  allow_shared_bytes(name, kernel, shape.shared_bytes);
  const LaunchConfig config(shape, stream);
  check_cuda(cudaLaunchKernelEx(&config.config, kernel, args...), name);
}

// The dynamic shared memory of the running block, aligned to 16 bytes.
template <typename T>
__device__ T* shared_memory() {
#ifdef VTADL_CUDA_EMULATOR
  uint4* dynamic_shared_memory = cuda_emulator::dynamic_shared_memory();
#else
  extern __shared__ uint4 dynamic_shared_memory[];
#endif
  return reinterpret_cast<T*>(dynamic_shared_memory);
}

}  // namespace vtadl
