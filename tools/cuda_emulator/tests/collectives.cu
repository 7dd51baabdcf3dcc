// Correct kernels compute what they compute on a GPU, whatever the seed.
#include <array>
#include <cmath>
#include <thread>
#include <vector>

#include "check.h"
#include "common/cluster.h"

namespace {

constexpr unsigned kAllLanes = 0xffffffff;

template <typename... Params, typename... Args>
void run(void (*kernel)(Params...), dim3 grid, dim3 block, Args... args) {
  vtadl::launch("kernel", kernel, {grid, block, 1024}, nullptr, args...);
}

__device__ float sum_of_warp(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_down_sync(kAllLanes, value, offset);
  }
  return value;
}

__global__ void sum_of_block(const float* values, float* sums) {
  __shared__ float static_sums[32];
  float* dynamic_sums = vtadl::shared_memory<float>();
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const float warp_sum = sum_of_warp(values[i]);
  if (threadIdx.x % 32 == 0) {
    static_sums[threadIdx.x / 32] = warp_sum;
    dynamic_sums[threadIdx.x / 32] = warp_sum;
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;
  const bool has_warp = threadIdx.x < blockDim.x / 32;
  const float from_static = has_warp ? static_sums[threadIdx.x] : 0;
  const float from_dynamic = has_warp ? dynamic_sums[threadIdx.x] : 0;
  const float sum = sum_of_warp((from_static + from_dynamic) / 2);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

void sums_of_blocks_are_right() {
  constexpr int kBlocks = 5;
  constexpr int kThreads = 256;
  std::vector<float> values(kBlocks * kThreads);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i;
  std::vector<float> sums(kBlocks);
  run(sum_of_block, kBlocks, kThreads, values.data(), sums.data());
  for (int block = 0; block < kBlocks; ++block) {
    const float mean = kThreads * block + (kThreads - 1) / 2.0f;
    CHECK(sums[block] == kThreads * mean);
  }
}

struct Shuffled {
  double indexed;
  float up;
  long long down;
  short flipped;
};

__global__ void shuffle_eight_lanes(Shuffled* shuffled) {
  const int lane = threadIdx.x;
  shuffled[lane].indexed = __shfl_sync(kAllLanes, double(lane), 11, 8);
  shuffled[lane].up = __shfl_up_sync(kAllLanes, float(lane), 3, 8);
  shuffled[lane].down = __shfl_down_sync(kAllLanes, (long long)lane, 3, 8);
  shuffled[lane].flipped = __shfl_xor_sync(kAllLanes, short(lane), 5, 8);
}

void shuffles_stay_within_their_width() {
  std::array<Shuffled, 32> shuffled;
  run(shuffle_eight_lanes, 1, 32, shuffled.data());
  for (int lane = 0; lane < 32; ++lane) {
    const int position = lane % 8;
    const int first = lane - position;
    CHECK(shuffled[lane].indexed == first + 3);
    CHECK(shuffled[lane].up == (position < 3 ? lane : lane - 3));
    CHECK(shuffled[lane].down == (position > 4 ? lane : lane + 3));
    CHECK(shuffled[lane].flipped == first + (position ^ 5));
  }
}

struct Votes {
  unsigned odd;
  bool all_real, all_odd, any_seventh, any_unreal;
  unsigned odd_in_half, positive_in_low_half;
};

__global__ void vote(Votes* votes) {
  const int lane = threadIdx.x;
  Votes& own = votes[lane];
  own.odd = __ballot_sync(kAllLanes, lane % 2);
  own.all_real = __all_sync(kAllLanes, lane < 32);
  own.all_odd = __all_sync(kAllLanes, lane % 2);
  own.any_seventh = __any_sync(kAllLanes, lane == 7);
  own.any_unreal = __any_sync(kAllLanes, lane == 32);
  const unsigned half = lane < 16 ? 0x0000ffff : 0xffff0000;
  own.odd_in_half = __ballot_sync(half, lane % 2);
  if (lane < 16) own.positive_in_low_half = __ballot_sync(half, lane > 0);
}

void votes_count_the_lanes_of_their_mask() {
  std::array<Votes, 32> votes{};
  run(vote, 1, 32, votes.data());
  for (int lane = 0; lane < 32; ++lane) {
    const Votes& seen = votes[lane];
    CHECK(seen.odd == 0xaaaaaaaa);
    CHECK(seen.all_real && !seen.all_odd);
    CHECK(seen.any_seventh && !seen.any_unreal);
    CHECK(seen.odd_in_half == (lane < 16 ? 0x0000aaaa : 0xaaaa0000));
    CHECK(seen.positive_in_low_half == (lane < 16 ? 0xfffe : 0));
  }
}

struct BlockVotes {
  int count, last, beyond, all, all_but_last;
};

__global__ void vote_in_block(BlockVotes* votes) {
  const int index = threadIdx.x;
  if (index >= 90) return;  // the barriers do not wait for threads that exited
  votes[index].count = __syncthreads_count(index < 40);
  votes[index].last = __syncthreads_or(index == 89);
  votes[index].beyond = __syncthreads_or(index == 90);
  votes[index].all = __syncthreads_and(index < 90);
  votes[index].all_but_last = __syncthreads_and(index < 89);
}

void barriers_count_the_threads_that_live() {
  std::array<BlockVotes, 90> votes{};
  run(vote_in_block, 1, 100, votes.data());
  for (const BlockVotes& seen : votes) {
    CHECK(seen.count == 40);
    CHECK(seen.last && !seen.beyond);
    CHECK(seen.all && !seen.all_but_last);
  }
}

// The sum over a cluster: each block reads the sums of all from their shared
// memory.
__global__ void sum_of_cluster(const float* values, float* sums, int blocks) {
  float* own = vtadl::shared_memory<float>();
  const float sum = sum_of_warp(values[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x == 0) *own = sum;
  vtadl::cluster_sync();
  float total = 0;
  for (int i = 0; i < blocks; ++i) total += *vtadl::map_shared_rank(own, i);
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = total + float(vtadl::cluster_rank());
  }
  vtadl::cluster_sync();  // no block exits while another reads its memory
}

void blocks_of_a_cluster_see_each_other() {
  constexpr int kBlocks = 12;
  std::vector<float> values(kBlocks * 32, 1);
  for (const int cluster : {1, 2, 4}) {
    std::vector<float> sums(kBlocks);
    vtadl::LaunchShape shape{kBlocks, 32, 1024};
    shape.cluster = cluster;
    vtadl::launch("kernel", sum_of_cluster, shape, nullptr, values.data(),
                  sums.data(), cluster);
    for (int block = 0; block < kBlocks; ++block) {
      CHECK(sums[block] == float(32 * cluster + block % cluster));
    }
  }
}

struct Atomics {
  int count = 0;
  unsigned long long wide = 0;
  float sum = 0;
  double precise = 0;
  int smallest = 0;
  int largest = 0;
  unsigned bits = 0;
  int product = 1;
};

__global__ void update(Atomics* atomics) {
  const int index = static_cast<int>(threadIdx.x);
  atomicAdd(&atomics->count, 1);
  atomicAdd(&atomics->wide, 1ull << 40);
  atomicAdd(&atomics->sum, 0.5f);
  atomicAdd(&atomics->precise, 0.25);
  atomicMin(&atomics->smallest, -index);
  atomicMax(&atomics->largest, index);
  atomicOr(&atomics->bits, 1u << index % 32);
  if (index >= 3) return;
  int seen = 1;
  int before;
  do {
    before = seen;
    seen = atomicCAS(&atomics->product, before, before * 3);
  } while (seen != before);
}

void atomics_lose_no_update() {
  Atomics atomics;
  run(update, 3, 64, &atomics);
  CHECK(atomics.count == 192);
  CHECK(atomics.wide == 192ull << 40);
  CHECK(atomics.sum == 96);
  CHECK(atomics.precise == 48);
  CHECK(atomics.smallest == -63);
  CHECK(atomics.largest == 63);
  CHECK(atomics.bits == kAllLanes);
  CHECK(atomics.product == 19683);
}

__global__ void mark(int* visits) {
  const unsigned x = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned y = blockIdx.y * blockDim.y + threadIdx.y;
  const unsigned z = blockIdx.z * blockDim.z + threadIdx.z;
  const unsigned width = gridDim.x * blockDim.x;
  const unsigned height = gridDim.y * blockDim.y;
  ++visits[(z * height + y) * width + x];
}

void each_thread_has_an_index_of_its_own() {
  std::vector<int> visits(2 * 3 * 4 * 5 * 6 * 7);
  run(mark, dim3(2, 3, 4), dim3(5, 6, 7), visits.data());
  CHECK(visits == std::vector<int>(visits.size(), 1));
}

__global__ void read_unwritten(float* values) {
  float* shared = vtadl::shared_memory<float>();
  values[blockIdx.x] = shared[7];
  shared[7] = 1;
}

void shared_memory_is_nan_in_each_new_block() {
  std::vector<float> values(4);
  run(read_unwritten, 4, 1, values.data());
  for (const float value : values) CHECK(std::isnan(value));
}

void any_host_thread_may_launch() {
  std::thread(sums_of_blocks_are_right).join();
  sums_of_blocks_are_right();
}

__global__ void empty() {}

void the_limits_of_a_gpu_hold() {
  const auto error = [](dim3 grid, dim3 block, std::size_t shared_bytes) {
    return error_of([=] {
      vtadl::launch("empty", empty, {grid, block, shared_bytes}, nullptr);
    });
  };
  CHECK(error(1, 1024, 227 * 1024).empty());
  CHECK(contains(error(1, 1, 228 * 1024), "empty: 233472 bytes of shared"));
  CHECK(contains(error(1, 1025, 0), "empty: invalid block (1025,1,1)"));
  CHECK(contains(error(dim3(1, 65536), 1, 0), "empty: invalid grid"));
  CHECK(contains(error(0, 1, 0), "empty: invalid grid (0,1,1)"));

  cudaLaunchConfig_t config{};
  config.dynamicSmemBytes = 49 * 1024;
  CHECK(cudaLaunchKernelEx(&config, mark, nullptr) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);

  int blocks = 0;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, empty, 256, 100 << 10);
  CHECK(blocks == 2);

  const auto error_of_cluster = [](unsigned blocks, std::size_t shared_bytes) {
    return error_of([=] {
      vtadl::launch("empty", empty, {16, 1, shared_bytes, blocks}, nullptr);
    });
  };
  CHECK(error_of_cluster(8, 100 << 10).empty());
  CHECK(contains(error_of_cluster(8, 200 << 10), "no room for a cluster of 8"));
  CHECK(contains(error_of_cluster(16, 0), "invalid cluster of 16"));
  CHECK(contains(error_of_cluster(3, 0), "invalid cluster of 3"));
}

__global__ void never_launched() {}

void a_cluster_fits_or_not() {
  const auto fits = [](unsigned blocks, std::size_t shared_bytes) {
    return vtadl::fits_cluster(never_launched, {16, 32, shared_bytes, blocks});
  };
  CHECK(fits(1, 200 << 10));
  CHECK(fits(4, 200 << 10));
  CHECK(fits(8, 100 << 10));
  CHECK(!fits(8, 200 << 10));
  CHECK(!fits(16, 0));  // no cluster has this size
  CHECK(cudaGetLastError() == cudaSuccess);
}

}  // namespace

int main() {
  for (unsigned seed = 0; seed < 20; ++seed) {
    cuda_emulator::set_seed(seed);
    sums_of_blocks_are_right();
    shuffles_stay_within_their_width();
    votes_count_the_lanes_of_their_mask();
    barriers_count_the_threads_that_live();
    blocks_of_a_cluster_see_each_other();
    atomics_lose_no_update();
    each_thread_has_an_index_of_its_own();
    shared_memory_is_nan_in_each_new_block();
  }
  any_host_thread_may_launch();
  the_limits_of_a_gpu_hold();
  a_cluster_fits_or_not();
}
