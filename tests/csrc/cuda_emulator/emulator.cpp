// Runs a grid: blocks in turn, the threads of a block as fibers. A thread runs
// until it exits or waits; who runs next is drawn at random.
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
constexpr int kMaxResidentThreads = 2048;
constexpr int kMaxResidentBlocks = 32;
constexpr int kSharedBytesWithoutOptIn = 48 * 1024;
constexpr int kSharedBytesOfBlock = 227 * 1024;
constexpr int kSharedBytesOfMultiprocessor = 228 * 1024;
constexpr int kSharedBytesReserved = 1024;  // of each block
constexpr int kMultiprocessors = 4;     // few, so that grid-stride loops loop
constexpr int kCacheBytes = 16 * 1024;  // little, so that it soon overflows

constexpr int kUnwritten = 0xff;  // NaN in every floating type

enum class State { kReady, kAtBarrier, kInWarp, kTrapped, kExited };

struct Thread {
  explicit Thread(int rank) : rank(rank) {}

  const int rank;  // in the block
  const int lane = rank % warpSize;
  uint3 index{};
  State state = State::kReady;
  Fiber fiber;
  // What it waits for:
  Site site{};
  Collective collective{};
  unsigned mask = 0;
  int source_lane = 0;
  std::uint64_t value = 0;  // brought, and then received
};

struct Machine {
  std::mutex mutex;  // one grid at a time
  std::mt19937 random;
  std::map<const void*, int> allowed_shared_bytes;
  std::unique_ptr<std::byte[]> shared;  // a sanitizer knows the heap's bounds
  const std::function<void()>* kernel = nullptr;
  std::deque<Thread> threads;  // kept for later blocks
  int block_threads = 0;
  int live_threads = 0;
  std::vector<Thread*> at_barrier;
  std::vector<Thread*> ready;
  Thread* running = nullptr;
  std::optional<std::string> failure;  // of the block

  Machine() {
    const char* seed = std::getenv("VTADL_EMULATOR_SEED");
    random.seed(seed == nullptr ? 0 : std::strtoul(seed, nullptr, 10));
  }
};

Machine machine;

// Of the calling thread of the host:
thread_local std::string error_message;
thread_local cudaError_t last_error = cudaSuccess;

// Words

std::ostream& operator<<(std::ostream& out, uint3 index) {
  return out << '(' << index.x << ',' << index.y << ',' << index.z << ')';
}

std::ostream& operator<<(std::ostream& out, const Site& site) {
  const char* slash = std::strrchr(site.file, '/');
  return out << site.function << " (" << (slash ? slash + 1 : site.file) << ':'
             << site.line << ')';
}

std::ostream& operator<<(std::ostream& out, const Thread& thread) {
  return out << "thread " << thread.index << " of block " << blockIdx;
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
  const bool in_warp = thread->state == State::kInWarp;
  return sentence("waits in ", thread->site, " for ",
                  in_warp ? "its warp" : "its block");
}

// Collectives

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

void open_barrier_if_all_wait() {
  std::vector<Thread*>& threads = machine.at_barrier;
  if (static_cast<int>(threads.size()) != machine.live_threads) return;
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
  return rank < machine.block_threads ? &machine.threads[rank] : nullptr;
}

bool meets(const Thread& thread, const Thread* other) {
  return other != nullptr && other->state == State::kInWarp &&
         other->mask == thread.mask && same(other->site, thread.site);
}

// The lane of the mask that others still wait for, or -1.
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
  std::vector<Thread*> threads;
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

// A block

void run_thread() {
  (*machine.kernel)();
  machine.running->state = State::kExited;
}

void start_threads() {
  machine.ready.clear();
  machine.at_barrier.clear();
  machine.live_threads = machine.block_threads;
  for (int rank = 0; rank < machine.block_threads; ++rank) {
    Thread& thread = machine.threads[rank];
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

void run_until_it_waits(Thread& thread) {
  machine.running = &thread;
  threadIdx = thread.index;
  thread.fiber.resume();
  switch (thread.state) {
    case State::kExited:
      --machine.live_threads;
      if (machine.live_threads > 0) open_barrier_if_all_wait();
      break;
    case State::kAtBarrier:
      machine.at_barrier.push_back(&thread);
      open_barrier_if_all_wait();
      break;
    case State::kInWarp:
      join_collective(thread);
      break;
    default:
      machine.failure = sentence(thread, " trapped in ", thread.site);
  }
}

// Threads remain that wait for one of their warp that will not come.
void explain_deadlock() {
  for (int rank = 0; rank < machine.block_threads; ++rank) {
    const Thread& thread = machine.threads[rank];
    if (thread.state != State::kInWarp) continue;
    const int lane = missing_lane(thread);
    machine.failure =
        sentence(thread, " waits in ", thread.site, " for lane ", lane,
                 ", which ", whereabouts(thread_in_lane(thread, lane)));
    return;
  }
}

void run_block(std::uint64_t block, std::size_t shared_bytes) {
  const std::uint64_t row = block / gridDim.x;
  blockIdx = {static_cast<unsigned>(block % gridDim.x),
              static_cast<unsigned>(row % gridDim.y),
              static_cast<unsigned>(row / gridDim.y)};
  std::memset(machine.shared.get(), kUnwritten, shared_bytes);
  start_threads();
  while (!machine.failure && !machine.ready.empty()) {
    run_until_it_waits(draw_ready_thread());
  }
  if (!machine.failure && machine.live_threads > 0) explain_deadlock();
}

// A grid

cudaError_t fail(cudaError_t error, const std::string& message) {
  error_message = message;
  return last_error = error;
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
  return cudaSuccess;
}

void set_up_grid(const cudaLaunchConfig_t& config,
                 const std::function<void()>& thread) {
  gridDim = config.gridDim;
  blockDim = config.blockDim;
  machine.kernel = &thread;
  machine.shared.reset(new std::byte[config.dynamicSmemBytes]);
  machine.block_threads = blockDim.x * blockDim.y * blockDim.z;
  while (static_cast<int>(machine.threads.size()) < machine.block_threads) {
    machine.threads.emplace_back(static_cast<int>(machine.threads.size()));
  }
}

std::vector<std::uint64_t> draw_block_order() {
  const std::uint64_t row = gridDim.x;
  std::vector<std::uint64_t> blocks(row * gridDim.y * gridDim.z);
  std::iota(blocks.begin(), blocks.end(), std::uint64_t{0});
  std::shuffle(blocks.begin(), blocks.end(), machine.random);
  return blocks;
}

}  // namespace

// For kernels

uint4* dynamic_shared_memory() {
  return reinterpret_cast<uint4*>(machine.shared.get());
}

int own_lane() { return machine.running->lane; }

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

int meet_block(bool predicate, Site site) {
  Thread& thread = *machine.running;
  thread.state = State::kAtBarrier;
  thread.site = site;
  thread.value = predicate;
  thread.fiber.suspend();
  return static_cast<int>(thread.value);
}

std::uint64_t meet_warp(Collective collective, unsigned mask,
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

// For the host

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

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel,
                   const std::function<void()>& thread) {
  const std::lock_guard<std::mutex> lock(machine.mutex);
  const cudaError_t error = check_limits(config, kernel);
  if (error != cudaSuccess) return error;
  set_up_grid(config, thread);
  for (const std::uint64_t block : draw_block_order()) {
    run_block(block, config.dynamicSmemBytes);
    if (machine.failure) {
      machine.threads.clear();  // some are in the middle of the kernel
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
      {cudaDevAttrClusterLaunch, 0},
  };
  *value = values.at(attribute);
  return cudaSuccess;
}
