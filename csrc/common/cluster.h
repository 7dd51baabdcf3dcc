// Clusters are blocks of one grid that run at the same time, wait for each
// other and see each other's shared memory. Devices of compute capability 9.0
// and later have them; elsewhere each block is a cluster of its own.
#pragma once

#include "common/launch.h"

namespace vtadl {

// The largest number of blocks that every device with clusters can run as one.
constexpr int kMaxCluster = 8;

// Whether the device has clusters, and the kernel's code, which may be PTX of
// an older device, knows them.
template <typename... Params>
bool has_clusters(void (*kernel)(Params...)) {
  if (device_attribute(cudaDevAttrClusterLaunch) == 0) return false;
  cudaFuncAttributes attributes{};
  check_cuda(cudaFuncGetAttributes(&attributes, kernel), "cluster");
  return attributes.ptxVersion >= 90;
}

// Whether one such cluster fits on the device, which may be small, or a slice
// of a large one.
template <typename... Params>
bool fits_cluster(void (*kernel)(Params...), const LaunchShape& shape) {
  if (shape.cluster == 1) return true;
  allow_shared_bytes("cluster", kernel, shape.shared_bytes);
  const LaunchConfig config(shape, nullptr);
  int clusters = 0;
  const cudaError_t status =
      cudaOccupancyMaxActiveClusters(&clusters, kernel, &config.config);
  if (status == cudaErrorInvalidClusterSize) {
    static_cast<void>(cudaGetLastError());  // answered, not failed
    return false;
  }
  check_cuda(status, "cluster");
  return clusters > 0;
}

__device__ inline int cluster_rank() {
#ifdef VTADL_CUDA_EMULATOR
  return cuda_emulator::rank_in_cluster();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return 0;
#endif
}

// Waits for all threads of all blocks of the cluster. Afterwards each of them
// sees what any of them wrote before.
__device__ inline void cluster_sync() {
#ifdef VTADL_CUDA_EMULATOR
  cuda_emulator::cluster_barrier();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "barrier.cluster.arrive.release;\n"
      "barrier.cluster.wait.acquire;" ::
          : "memory");
#else
  __syncthreads();
#endif
}

// The address, in the shared memory of block `rank` of the cluster, of what
// lies at `here` in the shared memory of this block.
template <typename T>
__device__ T* map_shared_rank(T* here, [[maybe_unused]] int rank) {
#ifdef VTADL_CUDA_EMULATOR
  return static_cast<T*>(cuda_emulator::map_shared_rank(here, rank));
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  T* there;
  asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(here), "r"(rank));
  return there;
#else
  return here;
#endif
}

}  // namespace vtadl
