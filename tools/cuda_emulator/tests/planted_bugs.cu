// The emulator finds the bug of each of these kernels, and says where it is.
#include <set>

#include "check.h"
#include "common/cluster.h"

namespace {

constexpr unsigned kAllLanes = 0xffffffff;

template <typename... Params, typename... Args>
std::string error_in(void (*kernel)(Params...), unsigned threads,
                     Args... args) {
  return error_of([=] {
    vtadl::launch("kernel", kernel, {1, threads, 1024}, nullptr, args...);
  });
}

template <typename... Params, typename... Args>
std::string error_in_cluster(void (*kernel)(Params...), Args... args) {
  return error_of([=] {
    vtadl::launch("kernel", kernel, {4, 32, 1024, 4}, nullptr, args...);
  });
}

template <bool kWithBarrier>
__global__ void read_other_warp(float* sum) {
  float* shared = vtadl::shared_memory<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (kWithBarrier) __syncthreads();
  if (threadIdx.x == 63) *sum = shared[0];
}

template <bool kWithBarrier>
__global__ void read_other_block(float* sum) {
  float* shared = vtadl::shared_memory<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (kWithBarrier) vtadl::cluster_sync();
  const float read = *vtadl::map_shared_rank(shared + 3, 0);
  if (blockIdx.x == 1 && threadIdx.x == 0) *sum = read - 3;
  vtadl::cluster_sync();
}

template <bool kWithBarrier>
__global__ void read_other_lane(float* sum) {
  float* shared = vtadl::shared_memory<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (kWithBarrier) __syncwarp();
  if (threadIdx.x == 31) *sum = shared[0];
}

std::size_t results_over_seeds(void (*kernel)(float*), unsigned threads,
                               unsigned cluster = 1) {
  std::set<bool> results;
  for (unsigned seed = 0; seed < 20; ++seed) {
    cuda_emulator::set_seed(seed);
    float sum = -1;
    vtadl::launch("kernel", kernel, {cluster, threads, 1024, cluster}, nullptr,
                  &sum);
    results.insert(sum == 0);
  }
  return results.size();
}

void a_missing_barrier_lets_the_seed_decide() {
  CHECK(results_over_seeds(read_other_warp<true>, 64) == 1);
  CHECK(results_over_seeds(read_other_warp<false>, 64) == 2);
  CHECK(results_over_seeds(read_other_block<true>, 32, 2) == 1);
  CHECK(results_over_seeds(read_other_block<false>, 32, 2) == 2);
  CHECK(results_over_seeds(read_other_lane<true>, 32) == 1);
  CHECK(results_over_seeds(read_other_lane<false>, 32) == 2);
}

__global__ void part_at_barrier() {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void wait_for_warp_and_block() {
  if (threadIdx.x == 3) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

__global__ void shuffle_with_exited_lane(int* value) {
  if (threadIdx.x == 5) return;
  *value = __shfl_xor_sync(kAllLanes, *value, 1);
}

__global__ void shuffle_whole_warp(int* value) {
  *value = __shfl_sync(kAllLanes, *value, 0);
}

__global__ void shuffle_without_own_lane(int* value) {
  *value = __shfl_sync(0xff, *value, 0);
}

__global__ void shuffle_from_excluded_lane(int* value) {
  if (threadIdx.x < 8) *value = __shfl_sync(0xff, *value, 9);
}

__global__ void shuffle_three_lanes(int* value) {
  *value = __shfl_sync(kAllLanes, *value, 0, 3);
}

__global__ void disagree_on_mask() {
  if (threadIdx.x == 0) {
    __syncwarp(0x3);
  } else {
    __syncwarp(0x7);
  }
}

__global__ void part_at_cluster_barrier() {
  if (blockIdx.x == 2 && threadIdx.x == 4) {
    __syncthreads();
  } else {
    vtadl::cluster_sync();
  }
}

__global__ void read_block_that_left() {
  if (blockIdx.x == 0) return;
  vtadl::cluster_sync();
  vtadl::map_shared_rank(vtadl::shared_memory<float>(), 0);
}

__global__ void read_block_of_other_cluster() {
  vtadl::map_shared_rank(vtadl::shared_memory<float>(), 4);
}

__global__ void trap_at_last() {
  if (threadIdx.x == 9) __trap();
}

void divergence_is_an_error_that_says_who_and_where() {
  int value = 0;
  CHECK(contains(error_in(part_at_barrier, 64),
                 "waits in part_at_barrier (planted_bugs.cu:"));
  CHECK(contains(error_in(wait_for_warp_and_block, 32),
                 "for lane 3, which waits in wait_for_warp_and_block"));
  CHECK(contains(error_in(shuffle_with_exited_lane, 32, &value),
                 "for lane 5, which has exited"));
  CHECK(contains(error_in(shuffle_whole_warp, 40, &value),
                 "for lane 8, which does not exist"));
  CHECK(contains(error_in(shuffle_without_own_lane, 32, &value),
                 "which its mask leaves out"));
  CHECK(contains(error_in(shuffle_from_excluded_lane, 32, &value),
                 "needs lane 9, which its mask leaves out"));
  CHECK(contains(error_in(shuffle_three_lanes, 32, &value),
                 "shuffles with an invalid width"));
  CHECK(contains(error_in(disagree_on_mask, 3), "which waits in"));
  CHECK(contains(error_in_cluster(part_at_cluster_barrier), "for its cluster"));
  CHECK(contains(error_in_cluster(part_at_cluster_barrier), "for its block"));
  CHECK(contains(error_in_cluster(read_block_that_left),
                 "trapped in map_shared_rank<float> (cluster.h:"));
  CHECK(contains(error_in_cluster(read_block_of_other_cluster),
                 "trapped in map_shared_rank<float> (cluster.h:"));
  CHECK(contains(error_in(trap_at_last, 32),
                 "kernel: thread (9,0,0) of block (0,0,0) trapped in"));
}

void a_kernel_runs_after_one_that_failed() {
  int value = 4;
  CHECK(error_in(shuffle_whole_warp, 32, &value).empty());
  CHECK(value == 4);
}

void an_unfit_build_says_what_to_do() {
  const auto error = [](cudaError_t status) {
    return error_of([=] { vtadl::check_cuda(status, "kernel"); });
  };
  CHECK(contains(error(cudaErrorNoKernelImageForDevice),
                 "reinstall it with TORCH_CUDA_ARCH_LIST"));
  CHECK(contains(error(cudaErrorInsufficientDriver), "update the driver"));
  CHECK(contains(error(cudaErrorUnsupportedPtxVersion), "update the driver"));
}

}  // namespace

int main() {
  a_missing_barrier_lets_the_seed_decide();
  divergence_is_an_error_that_says_who_and_where();
  a_kernel_runs_after_one_that_failed();
  an_unfit_build_says_what_to_do();
}
