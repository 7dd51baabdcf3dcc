// The emulator runs the clusters of a grid in turn, and the threads of a
// cluster's blocks as fibers. A thread runs until it exits or waits; the next
// one is drawn at random.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "cuda_runtime.h"
#include "fiber.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_emulator {
namespace {

// The limits of compute capability 9.0.
constexpr unsigned kMaxBlockThreads = 1024;
constexpr unsigned kMaxBlockDepth = 64;
constexpr unsigned kMaxGridWidth = 0x7fffffff;
constexpr unsigned kMaxGridHeight = 65535;
constexpr unsigned kMaxClusterBlocks = 8;
constexpr int kMaxResidentThreads = 2048;
constexpr int kMaxResidentBlocks = 32;
constexpr int kSharedBytesWithoutOptIn = 48 * 1024;
constexpr int kSharedBytesOfBlock = 227 * 1024;
constexpr int kSharedBytesOfMultiprocessor = 228 * 1024;
constexpr int kSharedBytesReserved = 1024;  // of each block
constexpr int kMultiprocessors = 4;     // so few that grid-stride loops loop
constexpr int kCacheBytes = 16 * 1024;  // so small that tests overflow it

constexpr int kUnwritten = 0xff;  // NaN in every floating type

enum class State { kReady, kInWarp, kInBlock, kInCluster, kTrapped, kExited };

struct Block;
struct Thread;

// A barrier of a block or a cluster, and the threads that it is for.
struct Barrier {
  int live = 0;  // threads that have not exited
  std::vector<Thread*> waiting;

  void reset(int threads) {
    live = threads;
    waiting.clear();
  }
};

struct Thread {
  Thread(Block& block, int rank) : block(block), rank(rank) {}

  Block& block;
  const int rank;  // in the block
  const int lane = rank % warpSize;
  uint3 index{};
  State state = State::kReady;
  Fiber fiber;
  // What the thread waits for:
  Site site{};
  Collective collective{};
  unsigned mask = 0;
  int source_lane = 0;
  std::uint64_t value = 0;  // what it gives, and then what it receives
};

struct Block {
  uint3 index{};
  std::deque<Thread> threads;  // kept for later blocks
  Barrier barrier;
  // The memory lives as long as the block, and on the heap, whose bounds a
  // sanitizer knows.
  std::unique_ptr<std::byte[]> shared;
};

struct Machine {
  std::mutex mutex;  // lets one grid run at a time
  std::mt19937 random;
  std::map<const void*, int> allowed_shared_bytes;
  const std::function<void()>* kernel = nullptr;
  std::deque<Block> blocks;  // of the cluster; more are kept for later ones
  int cluster_blocks = 0;
  int block_threads = 0;
  std::size_t shared_bytes = 0;  // of a block
  Barrier cluster_barrier;
  std::vector<Thread*> ready;
  std::vector<Thread*> met;  // in a collective; kept, for allocations are slow
  Thread* running = nullptr;
  std::optional<std::string> failure;  // of the cluster

  Machine() {
    const char* seed = std::getenv("VTADL_EMULATOR_SEED");
    random.seed(seed == nullptr ? 0 : std::strtoul(seed, nullptr, 10));
  }
};

Machine machine;

// The last error of the calling thread of the host:
thread_local std::string error_message;
thread_local cudaError_t last_error = cudaSuccess;

// --------------------------------------------------------------- messages

std::ostream& operator<<(std::ostream& out, uint3 index) {
  return out << '(' << index.x << ',' << index.y << ',' << index.z << ')';
}

std::ostream& operator<<(std::ostream& out, const Site& site) {
  const char* slash = std::strrchr(site.file, '/');
  return out << site.function << " (" << (slash ? slash + 1 : site.file) << ':'
             << site.line << ')';
}

std::ostream& operator<<(std::ostream& out, const Thread& thread) {
  return out << "thread " << thread.index << " of block " << thread.block.index;
}

template <typename... Parts>
std::string sentence(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

std::string whereabouts(const Thread* thread) {
  if (thread == nullptr) return "does not exist";
  if (thread->state == State::kExited) return "has exited";
  const char* whom = thread->state == State::kInWarp    ? "its warp"
                     : thread->state == State::kInBlock ? "its block"
                                                        : "its cluster";
  return sentence("waits in ", thread->site, " for ", whom);
}

// ------------------------------------------------------------- collectives

bool same(const Site& a, const Site& b) {
  return a.line == b.line &&
         (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

void make_ready(Thread& thread) {
  thread.state = State::kReady;
  machine.ready.push_back(&thread);
}

void order_memory(const std::vector<Thread*>& threads) {
  std::vector<Fiber*> fibers;
  for (Thread* thread : threads) fibers.push_back(&thread->fiber);
  Fiber::order(fibers);
}

void open_if_all_wait(Barrier& barrier) {
  std::vector<Thread*>& threads = barrier.waiting;
  if (barrier.live == 0 || static_cast<int>(threads.size()) != barrier.live)
    return;
  std::uint64_t count = 0;
  for (const Thread* thread : threads) {
    if (!same(thread->site, threads.front()->site)) {
      machine.failure =
          sentence(*threads.front(), " waits in ", threads.front()->site,
                   " while ", *thread, " waits in ", thread->site);
      return;
    }
    count += thread->value;
  }
  order_memory(threads);
  for (Thread* thread : threads) {
    thread->value = count;
    make_ready(*thread);
  }
  threads.clear();
}

Thread* thread_in_lane(const Thread& neighbour, int lane) {
  const int rank = neighbour.rank - neighbour.lane + lane;
  return rank < machine.block_threads ? &neighbour.block.threads[rank]
                                      : nullptr;
}

bool meets(const Thread& thread, const Thread* other) {
  return other != nullptr && other->state == State::kInWarp &&
         other->mask == thread.mask && same(other->site, thread.site);
}

// A lane of the mask for which the others still wait, or -1.
int missing_lane(const Thread& thread) {
  for (unsigned rest = thread.mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    if (!meets(thread, thread_in_lane(thread, lane))) return lane;
  }
  return -1;
}

void complete_collective(const Thread& last) {
  std::uint64_t values[warpSize] = {};
  std::uint64_t ballot = 0;
  std::vector<Thread*>& threads = machine.met;
  threads.clear();
  for (unsigned rest = last.mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    threads.push_back(thread_in_lane(last, lane));
    values[lane] = threads.back()->value;
    ballot |= std::uint64_t{values[lane] != 0} << lane;
  }
  if (last.collective == Collective::kBarrier) order_memory(threads);
  for (Thread* thread : threads) {
    thread->value = last.collective == Collective::kShuffle
                        ? values[thread->source_lane]
                        : ballot;
    make_ready(*thread);
  }
}

void join_collective(const Thread& thread) {
  if (thread.source_lane < 0) {
    machine.failure = sentence(thread, " in ", thread.site,
                               " shuffles with an invalid width");
    return;
  }
  for (const int lane : {thread.lane, thread.source_lane}) {
    if ((thread.mask >> lane & 1) != 0) continue;
    machine.failure = sentence(thread, " in ", thread.site, " needs lane ",
                               lane, ", which its mask leaves out");
    return;
  }
  if (missing_lane(thread) < 0) complete_collective(thread);
}

// --------------------------------------------------------------- a cluster

void run_thread() {
  (*machine.kernel)();
  machine.running->state = State::kExited;
}

uint3 block_index(std::uint64_t block) {
  const std::uint64_t row = block / gridDim.x;
  return {static_cast<unsigned>(block % gridDim.x),
          static_cast<unsigned>(row % gridDim.y),
          static_cast<unsigned>(row / gridDim.y)};
}

void start_block(Block& block, uint3 index) {
  block.index = index;
  block.shared.reset(new std::byte[machine.shared_bytes]);
  std::memset(block.shared.get(), kUnwritten, machine.shared_bytes);
  block.barrier.reset(machine.block_threads);
  for (int rank = 0; rank < machine.block_threads; ++rank) {
    Thread& thread = block.threads[rank];
    const unsigned row = rank / blockDim.x;
    thread.index = {rank % blockDim.x, row % blockDim.y, row / blockDim.y};
    thread.fiber.rewind(run_thread);
    make_ready(thread);
  }
}

Thread& draw_ready_thread() {
  std::vector<Thread*>& ready = machine.ready;
  const std::size_t drawn =
      std::uint64_t{machine.random()} * ready.size() >> 32;
  std::swap(ready[drawn], ready.back());
  Thread& thread = *ready.back();
  ready.pop_back();
  return thread;
}

void leave(Barrier& barrier) {
  --barrier.live;
  open_if_all_wait(barrier);
}

void wait_at(Barrier& barrier, Thread& thread) {
  barrier.waiting.push_back(&thread);
  open_if_all_wait(barrier);
}

void run_until_it_waits(Thread& thread) {
  machine.running = &thread;
  threadIdx = thread.index;
  blockIdx = thread.block.index;
  thread.fiber.resume();
  switch (thread.state) {
    case State::kExited:
      leave(thread.block.barrier);
      leave(machine.cluster_barrier);
      if (thread.block.barrier.live == 0) thread.block.shared.reset();
      break;
    case State::kInBlock:
      wait_at(thread.block.barrier, thread);
      break;
    case State::kInCluster:
      wait_at(machine.cluster_barrier, thread);
      break;
    case State::kInWarp:
      join_collective(thread);
      break;
    default:
      machine.failure = sentence(thread, " trapped in ", thread.site);
  }
}

std::string explain_deadlock_of_block(const Block& block) {
  const Thread* waiting = nullptr;
  for (int rank = 0; rank < machine.block_threads; ++rank) {
    const Thread& thread = block.threads[rank];
    if (thread.state == State::kInWarp) {
      const int lane = missing_lane(thread);
      return sentence(thread, " waits in ", thread.site, " for lane ", lane,
                      ", which ", whereabouts(thread_in_lane(thread, lane)));
    }
    if (thread.state == State::kExited) continue;
    if (waiting != nullptr && waiting->state != thread.state) {
      return sentence(*waiting, ' ', whereabouts(waiting), " while ", thread,
                      ' ', whereabouts(&thread));
    }
    waiting = &thread;
  }
  return "";  // the block waits for other blocks
}

// Says why threads remain that wait for others which will not come.
void explain_deadlock() {
  for (int rank = 0; rank < machine.cluster_blocks; ++rank) {
    const std::string reason = explain_deadlock_of_block(machine.blocks[rank]);
    if (reason.empty()) continue;
    machine.failure = reason;
    return;
  }
}

void run_cluster(std::uint64_t cluster) {
  machine.ready.clear();
  machine.cluster_barrier.reset(machine.cluster_blocks * machine.block_threads);
  for (int rank = 0; rank < machine.cluster_blocks; ++rank) {
    start_block(machine.blocks[rank],
                block_index(cluster * machine.cluster_blocks + rank));
  }
  while (!machine.failure && !machine.ready.empty()) {
    run_until_it_waits(draw_ready_thread());
  }
  if (!machine.failure && machine.cluster_barrier.live > 0) explain_deadlock();
}

// ------------------------------------------------------------------ a grid

cudaError_t fail(cudaError_t error, const std::string& message) {
  error_message = message;
  return last_error = error;
}

unsigned cluster_blocks(const cudaLaunchConfig_t& config) {
  return config.numAttrs == 0 ? 1 : config.attrs->val.clusterDim.x;
}

int resident_clusters(const cudaLaunchConfig_t& config) {
  const dim3 block = config.blockDim;
  const int blocks = resident_blocks(
      static_cast<int>(block.x * block.y * block.z), config.dynamicSmemBytes);
  return kMultiprocessors * blocks / static_cast<int>(cluster_blocks(config));
}

cudaError_t check_limits(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3 grid = config.gridDim;
  const dim3 block = config.blockDim;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxBlockThreads || block.z > kMaxBlockDepth) {
    return fail(cudaErrorInvalidConfiguration,
                sentence("invalid block ", uint3{block.x, block.y, block.z}));
  }
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  if (blocks == 0 || grid.x > kMaxGridWidth ||
      std::max(grid.y, grid.z) > kMaxGridHeight) {
    return fail(cudaErrorInvalidConfiguration,
                sentence("invalid grid ", uint3{grid.x, grid.y, grid.z}));
  }
  const int allowed =
      std::max(kSharedBytesWithoutOptIn, machine.allowed_shared_bytes[kernel]);
  if (config.dynamicSmemBytes > static_cast<std::size_t>(allowed)) {
    return fail(cudaErrorInvalidValue,
                sentence(config.dynamicSmemBytes, " bytes of shared memory; ",
                         allowed, " are allowed"));
  }
  const unsigned cluster = cluster_blocks(config);
  if (cluster == 0 || cluster > kMaxClusterBlocks || grid.x % cluster != 0) {
    return fail(cudaErrorInvalidClusterSize,
                sentence("invalid cluster of ", cluster, " blocks"));
  }
  return cudaSuccess;
}

void set_up_grid(const cudaLaunchConfig_t& config,
                 const std::function<void()>& thread) {
  gridDim = config.gridDim;
  blockDim = config.blockDim;
  machine.kernel = &thread;
  machine.shared_bytes = config.dynamicSmemBytes;
  machine.block_threads = blockDim.x * blockDim.y * blockDim.z;
  machine.cluster_blocks = static_cast<int>(cluster_blocks(config));
  for (int rank = 0; rank < machine.cluster_blocks; ++rank) {
    if (static_cast<int>(machine.blocks.size()) == rank) {
      machine.blocks.emplace_back();
    }
    Block& block = machine.blocks[rank];
    while (static_cast<int>(block.threads.size()) < machine.block_threads) {
      block.threads.emplace_back(block, static_cast<int>(block.threads.size()));
    }
  }
}

std::vector<std::uint64_t> draw_cluster_order() {
  const std::uint64_t row = gridDim.x / machine.cluster_blocks;
  std::vector<std::uint64_t> clusters(row * gridDim.y * gridDim.z);
  std::iota(clusters.begin(), clusters.end(), std::uint64_t{0});
  std::shuffle(clusters.begin(), clusters.end(), machine.random);
  return clusters;
}

}  // namespace

// ------------------------------------------------------------- for kernels

uint4* dynamic_shared_memory() {
  return reinterpret_cast<uint4*>(machine.running->block.shared.get());
}

int own_lane() { return machine.running->lane; }

int rank_in_cluster() {
  return static_cast<int>(blockIdx.x % machine.cluster_blocks);
}

void* map_shared_rank(void* here, int rank, Site site) {
  const auto offset = static_cast<std::size_t>(
      static_cast<std::byte*>(here) - machine.running->block.shared.get());
  const bool exists = rank >= 0 && rank < machine.cluster_blocks &&
                      machine.blocks[rank].shared != nullptr;
  if (!exists || offset >= machine.shared_bytes) trap(site);
  return machine.blocks[rank].shared.get() + offset;
}

unsigned live_lanes() {
  unsigned lanes = 0;
  for (int lane = 0; lane < warpSize; ++lane) {
    const Thread* thread = thread_in_lane(*machine.running, lane);
    if (thread != nullptr && thread->state != State::kExited) {
      lanes |= 1u << lane;
    }
  }
  return lanes;
}

void trap(Site site) {
  machine.running->site = site;
  machine.running->state = State::kTrapped;
  machine.running->fiber.suspend();
}

void cluster_barrier(Site site) {
  Thread& thread = *machine.running;
  thread.state = State::kInCluster;
  thread.site = site;
  thread.fiber.suspend();
}

int block_barrier(bool predicate, Site site) {
  Thread& thread = *machine.running;
  thread.state = State::kInBlock;
  thread.site = site;
  thread.value = predicate;
  thread.fiber.suspend();
  return static_cast<int>(thread.value);
}

std::uint64_t warp_collective(Collective collective, unsigned mask,
                              std::uint64_t value, int source_lane, Site site) {
  Thread& thread = *machine.running;
  thread.state = State::kInWarp;
  thread.site = site;
  thread.collective = collective;
  thread.mask = mask;
  thread.source_lane = source_lane;
  thread.value = value;
  thread.fiber.suspend();
  return thread.value;
}

// ------------------------------------------------------------ for the host

void set_seed(unsigned seed) {
  const std::lock_guard<std::mutex> lock(machine.mutex);
  machine.random.seed(seed);
}

cudaError_t allow_shared_bytes(const void* kernel, int bytes) {
  if (bytes > kSharedBytesOfBlock) {
    return fail(cudaErrorInvalidValue,
                sentence(bytes, " bytes of shared memory; a block has ",
                         kSharedBytesOfBlock));
  }
  const std::lock_guard<std::mutex> lock(machine.mutex);
  machine.allowed_shared_bytes[kernel] = bytes;
  return cudaSuccess;
}

int resident_blocks(int block_threads, std::size_t shared_bytes) {
  const int shared = static_cast<int>(shared_bytes) + kSharedBytesReserved;
  return std::min({kMaxResidentBlocks, kMaxResidentThreads / block_threads,
                   kSharedBytesOfMultiprocessor / shared});
}

cudaError_t count_clusters(int* clusters, const cudaLaunchConfig_t& config,
                           const void* kernel) {
  const std::lock_guard<std::mutex> lock(machine.mutex);
  const cudaError_t error = check_limits(config, kernel);
  if (error == cudaSuccess) *clusters = resident_clusters(config);
  return error;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel,
                   const std::function<void()>& thread) {
  const std::lock_guard<std::mutex> lock(machine.mutex);
  const cudaError_t error = check_limits(config, kernel);
  if (error != cudaSuccess) return error;
  if (resident_clusters(config) == 0) {
    return fail(cudaErrorInvalidClusterSize,
                sentence("no room for a cluster of ", cluster_blocks(config)));
  }
  set_up_grid(config, thread);
  for (const std::uint64_t cluster : draw_cluster_order()) {
    run_cluster(cluster);
    if (machine.failure) {
      machine.blocks.clear();  // their threads are in the middle of the kernel
      return fail(cudaErrorLaunchFailure,
                  *std::exchange(machine.failure, std::nullopt));
    }
  }
  return cudaSuccess;
}

}  // namespace cuda_emulator

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error"
                              : cuda_emulator::error_message.c_str();
}

cudaError_t cudaGetLastError() {
  return std::exchange(cuda_emulator::last_error, cudaSuccess);
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute,
                                   int /*device*/) {
  using namespace cuda_emulator;
  static const std::map<cudaDeviceAttr, int> values = {
      {cudaDevAttrMaxThreadsPerBlock, kMaxBlockThreads},
      {cudaDevAttrMaxSharedMemoryPerBlock, kSharedBytesWithoutOptIn},
      {cudaDevAttrWarpSize, warpSize},
      {cudaDevAttrMultiProcessorCount, kMultiprocessors},
      {cudaDevAttrL2CacheSize, kCacheBytes},
      {cudaDevAttrMaxThreadsPerMultiProcessor, kMaxResidentThreads},
      {cudaDevAttrComputeCapabilityMajor, 9},
      {cudaDevAttrComputeCapabilityMinor, 0},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor,
       kSharedBytesOfMultiprocessor},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, kSharedBytesOfBlock},
      {cudaDevAttrClusterLaunch, 1},
  };
  *value = values.at(attribute);
  return cudaSuccess;
}
