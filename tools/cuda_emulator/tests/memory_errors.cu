// Makes the memory error that the command line names, for a sanitizer to find.
#include <cstring>
#include <vector>

#include "check.h"
#include "common/cluster.h"

namespace {

constexpr unsigned kThreads = 64;

__global__ void none(float* values) {
  float* shared = vtadl::shared_memory<float>();
  __shared__ float fixed[kThreads];
  const unsigned i = threadIdx.x;
  shared[i] = values[i];
  fixed[i] = values[i];
  __syncwarp();
  values[i] = shared[i ^ 1] + fixed[i ^ 1];
  __syncthreads();
  shared[i] = values[kThreads - 1 - i];
}

__global__ void beyond_global(float* values) {
  values[threadIdx.x] = values[threadIdx.x + 1];
}

__global__ void beyond_shared(float* values) {
  float* shared = vtadl::shared_memory<float>();
  shared[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = shared[threadIdx.x + 1];
}

__global__ void beyond_static(float* values) {
  __shared__ float fixed[kThreads];
  fixed[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = fixed[threadIdx.x + 1];
}

// Block 0 may have exited when block 1 reads its memory.
__global__ void block_that_left(float* values) {
  float* shared = vtadl::shared_memory<float>();
  shared[threadIdx.x] = values[threadIdx.x];
  vtadl::cluster_sync();
  float* of_first = vtadl::map_shared_rank(shared, 0);
  if (blockIdx.x == 0) return;
  vtadl::cluster_sync();
  values[threadIdx.x] = of_first[threadIdx.x];
}

// Two blocks of a cluster read each other's memory without a barrier.
__global__ void unordered_blocks(float* values) {
  float* shared = vtadl::shared_memory<float>();
  shared[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  const float read =
      *vtadl::map_shared_rank(shared + threadIdx.x, 1 - blockIdx.x);
  vtadl::cluster_sync();
  if (blockIdx.x == 0) values[threadIdx.x] = read;
}

__global__ void misaligned(float* values) {
  const auto* vectors = reinterpret_cast<const float4*>(values + 1);
  values[threadIdx.x] = vectors[threadIdx.x / 8].x;
}

// The sum is right if whole threads run in any order, yet wrong on a GPU.
__global__ void lost_update(float* values) { values[0] += 1; }

// A shuffle makes the lanes wait for each other, but does not order memory.
__global__ void shuffle_for_barrier(float* values) {
  float* shared = vtadl::shared_memory<float>();
  shared[threadIdx.x] = values[threadIdx.x];
  const float sum = __shfl_xor_sync(0xffffffff, values[threadIdx.x], 1);
  values[threadIdx.x] = sum + shared[threadIdx.x ^ 1];
}

struct Case {
  const char* name;
  void (*kernel)(float*);
  unsigned blocks = 1;  // of one cluster
};

constexpr Case kCases[] = {
    {"none", none},
    {"beyond_global", beyond_global},
    {"beyond_shared", beyond_shared},
    {"beyond_static", beyond_static},
    {"block_that_left", block_that_left, 2},
    {"unordered_blocks", unordered_blocks, 2},
    {"misaligned", misaligned},
    {"lost_update", lost_update},
    {"shuffle_for_barrier", shuffle_for_barrier},
};

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 2);
  std::vector<float> values(kThreads);
  for (const Case& known : kCases) {
    if (std::strcmp(known.name, arguments[1]) != 0) continue;
    vtadl::launch(
        known.name, known.kernel,
        {known.blocks, kThreads, kThreads * sizeof(float), known.blocks},
        nullptr, values.data());
  }
  std::puts("finished");
}
