// Replaces CUDA's header of this name: a launch runs its kernel on the CPU, and
// returns when it has finished.
#pragma once

#define VTADL_CUDA_EMULATOR 1

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>

#include "device_functions.h"
#include "vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
// Static shared memory suits blocks that run in turn, but not those of one
// cluster. It keeps what an earlier block left in it.
#define __shared__ static
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorLaunchFailure = 719,
  cudaErrorInvalidClusterSize = 912,
};

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
  cudaDevAttrClusterLaunch = 120,
};

using cudaStream_t = struct CUstream_st*;

// The blocks of a cluster lie along x.
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension = 4 };

struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    struct {
      unsigned x, y, z;
    } clusterDim;
  } val;
};

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

namespace cuda_emulator {

// Sets the seed from which the order of threads and blocks is drawn. The first
// seed is the environment variable VTADL_EMULATOR_SEED, or 0.
void set_seed(unsigned seed);

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel,
                   const std::function<void()>& thread);
cudaError_t allow_shared_bytes(const void* kernel, int bytes);
int resident_blocks(int block_threads, std::size_t shared_bytes);
cudaError_t count_clusters(int* clusters, const cudaLaunchConfig_t& config,
                           const void* kernel);

}  // namespace cuda_emulator

// For a launch that failed, the text says which thread of the kernel erred, and
// where.
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute,
                                   int device);

// The emulated device's memory is the host's.
inline cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  *pointer = std::malloc(bytes);
  return cudaSuccess;
}

inline cudaError_t cudaFree(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}

inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes,
                              cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config,
                               void (*kernel)(Params...), Args&&... args) {
  const std::tuple<Params...> params(static_cast<Params>(args)...);
  return cuda_emulator::launch(
      *config, reinterpret_cast<const void*>(kernel),
      [&params, kernel] { std::apply(kernel, params); });
}

struct cudaFuncAttributes {
  int ptxVersion;
};

template <typename... Params>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes,
                                  void (*)(Params...)) {
  attributes->ptxVersion = 90;
  return cudaSuccess;
}

template <typename... Params>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Params...),
                                 cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    return cudaSuccess;
  }
  return cuda_emulator::allow_shared_bytes(
      reinterpret_cast<const void*>(kernel), value);
}

template <typename... Params>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(
    int* blocks, void (*)(Params...), int block_threads,
    std::size_t shared_bytes) {
  *blocks = cuda_emulator::resident_blocks(block_threads, shared_bytes);
  return cudaSuccess;
}

template <typename... Params>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters,
                                           void (*kernel)(Params...),
                                           const cudaLaunchConfig_t* config) {
  return cuda_emulator::count_clusters(clusters, *config,
                                       reinterpret_cast<const void*>(kernel));
}
