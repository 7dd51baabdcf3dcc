// Runs a grid: blocks in turn, the threads of a block as fibers, in an order
// drawn from a seed. Only collectives let another thread run.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cuda_runtime.h"
#include "fiber.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_emulator {
namespace {

// The limits of a card of compute capability 9.0.
constexpr unsigned kMaxBlockThreads = 1024;
constexpr unsigned kMaxBlockDepth = 64;
constexpr unsigned kMaxGridWidth = 0x7fffffff;
constexpr unsigned kMaxGridHeight = 65535;
constexpr int kMaxResidentThreads = 2048;
constexpr int kMaxResidentBlocks = 32;
constexpr int kSharedBytesWithoutOptIn = 48 * 1024;
constexpr int kSharedBytesOfBlock = 227 * 1024;
constexpr int kSharedBytesOfMultiprocessor = 228 * 1024;
constexpr int kSharedBytesReservedPerBlock = 1024;
constexpr int kMultiprocessors = 4;  // few, so that grid-stride loops loop

// Makes NaN of every floating type, and an index that is out of bounds.
constexpr int kUnwritten = 0xff;

enum class State { kReady, kAtBarrier, kInWarp, kExited };

struct Thread {
  explicit Thread(int rank) : rank(rank) {}

  int lane() const { return rank % warpSize; }

  const int rank;  // in its block
  Fiber fiber;
  uint3 index{};
  State state = State::kReady;
  // Of the collective at which it waits, and then the result:
  Site site{};
  unsigned mask = 0;
  std::uint64_t value = 0;
  int source_lane = 0;
};

// One grid runs at a time.
struct Machine {
  std::mutex in_use;
  std::mt19937 random;
  std::unordered_map<const void*, int> allowed_shared_bytes;
  std::string message;  // of the last error
  cudaError_t last_error = cudaSuccess;

  const std::function<void()>* kernel = nullptr;
  std::unique_ptr<std::byte[]> shared;  // on the heap, where bounds are checked

  // Of the running block:
  std::vector<std::unique_ptr<Thread>> threads;  // kept for the next launch
  int thread_count = 0;
  int live_count = 0;
  std::vector<Thread*> at_barrier;
  std::vector<Thread*> ready;
  Thread* running = nullptr;
  std::optional<std::string> failure;

  Machine() {
    const char* seed = std::getenv("VTADL_EMULATOR_SEED");
    random.seed(seed == nullptr ? 0u : std::strtoul(seed, nullptr, 10));
  }
};

Machine& machine() {
  static Machine instance;
  return instance;
}

// Words

std::ostream& operator<<(std::ostream& out, uint3 index) {
  return out << '(' << index.x << ',' << index.y << ',' << index.z << ')';
}

std::ostream& operator<<(std::ostream& out, const Site& site) {
  const char* slash = std::strrchr(site.file, '/');
  return out << (slash == nullptr ? site.file : slash + 1) << ':' << site.line
             << " (" << site.function << ')';
}

std::string where(const Thread& thread) {
  std::ostringstream out;
  out << "block " << blockIdx << " thread " << thread.index;
  return out.str();
}

template <typename... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Suspension

bool same(const Site& a, const Site& b) {
  return a.line == b.line && std::strcmp(a.file, b.file) == 0;
}

void make_ready(Thread& thread) {
  thread.state = State::kReady;
  machine().ready.push_back(&thread);
}

void wait() { machine().running->fiber.suspend(); }

[[noreturn]] void abandon_block() {
  for (;;) wait();
}

void order_memory(const std::vector<Thread*>& threads) {
  std::vector<Fiber*> fibers;
  for (Thread* thread : threads) fibers.push_back(&thread->fiber);
  Fiber::order(fibers);
}

// The barrier of the block

void open_barrier() {
  Machine& m = machine();
  const Thread& first = *m.at_barrier.front();
  std::uint64_t count = 0;
  for (Thread* thread : m.at_barrier) {
    if (!same(thread->site, first.site)) {
      m.failure = join(where(first), " is at the barrier ", first.site,
                       " while thread ", thread->index, " is at the barrier ",
                       thread->site);
      return;
    }
    count += thread->value;
  }
  order_memory(m.at_barrier);
  for (Thread* thread : m.at_barrier) {
    thread->value = count;
    make_ready(*thread);
  }
  m.at_barrier.clear();
}

void open_barrier_if_all_arrived() {
  Machine& m = machine();
  const auto arrived = static_cast<int>(m.at_barrier.size());
  if (arrived > 0 && arrived == m.live_count) open_barrier();
}

// Collectives of a warp

// Null if the block has no such thread.
Thread* lane_of_warp(const Thread& thread, int lane) {
  Machine& m = machine();
  const int rank = thread.rank - thread.lane() + lane;
  return rank < m.thread_count ? m.threads[rank].get() : nullptr;
}

bool meets(const Thread& thread, const Thread* other) {
  return other != nullptr && other->state == State::kInWarp &&
         other->mask == thread.mask && same(other->site, thread.site);
}

// Empty if some lane of the mask has not arrived.
std::vector<Thread*> participants(const Thread& thread) {
  std::vector<Thread*> found;
  for (unsigned rest = thread.mask; rest != 0; rest &= rest - 1) {
    Thread* other = lane_of_warp(thread, __builtin_ctz(rest));
    if (!meets(thread, other)) return {};
    found.push_back(other);
  }
  return found;
}

enum class Collective { kBallot, kExchange, kBarrier };

void complete(Collective collective, const std::vector<Thread*>& threads) {
  std::uint64_t values[warpSize] = {};
  std::uint64_t ballot = 0;
  for (const Thread* thread : threads) {
    values[thread->lane()] = thread->value;
    ballot |= std::uint64_t{thread->value != 0} << thread->lane();
  }
  if (collective == Collective::kBarrier) order_memory(threads);
  for (Thread* thread : threads) {
    thread->value = collective == Collective::kExchange
                        ? values[thread->source_lane]
                        : ballot;
    make_ready(*thread);
  }
}

std::uint64_t meet_warp(Collective collective, unsigned mask,
                        std::uint64_t value, int source_lane, Site site) {
  Machine& m = machine();
  Thread& thread = *m.running;
  for (const int needed : {thread.lane(), source_lane}) {
    if ((mask >> needed & 1) == 0) {
      m.failure = join(where(thread), " at ", site, " involves lane ", needed,
                       ", which its mask 0x", std::hex, mask, " leaves out");
      abandon_block();
    }
  }
  thread.state = State::kInWarp;
  thread.site = site;
  thread.mask = mask;
  thread.value = value;
  thread.source_lane = source_lane;
  if (const auto threads = participants(thread); !threads.empty()) {
    complete(collective, threads);
  }
  wait();
  return thread.value;
}

// A block

std::string whereabouts(const Thread* thread) {
  if (thread == nullptr) return "does not exist";
  switch (thread->state) {
    case State::kExited:
      return "has exited";
    case State::kAtBarrier:
      return join("waits at the barrier ", thread->site);
    default:
      return join("waits at ", thread->site, " with mask 0x", std::hex,
                  thread->mask);
  }
}

// No thread can run, yet some live: one of them waits for a lane elsewhere.
std::string explain_deadlock() {
  Machine& m = machine();
  for (int rank = 0; rank < m.thread_count; ++rank) {
    const Thread& thread = *m.threads[rank];
    if (thread.state != State::kInWarp) continue;
    for (unsigned rest = thread.mask; rest != 0; rest &= rest - 1) {
      const int lane = __builtin_ctz(rest);
      const Thread* other = lane_of_warp(thread, lane);
      if (meets(thread, other)) continue;
      return join(where(thread), " waits at ", thread.site, " with mask 0x",
                  std::hex, thread.mask, std::dec, " for lane ", lane,
                  ", which ", whereabouts(other));
    }
  }
  return "deadlock";
}

void run_thread() {
  Machine& m = machine();
  (*m.kernel)();
  m.running->state = State::kExited;
  --m.live_count;
  open_barrier_if_all_arrived();
}

void start_threads() {
  Machine& m = machine();
  m.ready.clear();
  m.at_barrier.clear();
  m.live_count = m.thread_count;
  for (int rank = 0; rank < m.thread_count; ++rank) {
    Thread& thread = *m.threads[rank];
    thread.fiber.rewind(run_thread);
    const unsigned row = rank / blockDim.x;
    thread.index = {rank % blockDim.x, row % blockDim.y, row / blockDim.y};
    make_ready(thread);
  }
}

Thread* draw_ready_thread() {
  Machine& m = machine();
  const std::size_t drawn =
      static_cast<std::uint64_t>(m.random()) * m.ready.size() >> 32;
  std::swap(m.ready[drawn], m.ready.back());
  Thread* thread = m.ready.back();
  m.ready.pop_back();
  return thread;
}

void run_block() {
  Machine& m = machine();
  start_threads();
  while (!m.failure && !m.ready.empty()) {
    m.running = draw_ready_thread();
    threadIdx = m.running->index;
    m.running->fiber.resume();
  }
  if (!m.failure && m.live_count > 0) m.failure = explain_deadlock();
}

// A grid

cudaError_t fail(cudaError_t error, const std::string& message) {
  Machine& m = machine();
  m.message = message;
  return m.last_error = error;
}

cudaError_t check_limits(const cudaLaunchConfig_t& config, int shared_limit) {
  const dim3 grid = config.gridDim;
  const dim3 block = config.blockDim;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxBlockThreads || block.z > kMaxBlockDepth) {
    return fail(cudaErrorInvalidConfiguration,
                join("invalid configuration: block ", uint3(block)));
  }
  if (grid.x == 0 || grid.x > kMaxGridWidth || grid.y == 0 ||
      grid.y > kMaxGridHeight || grid.z == 0 || grid.z > kMaxGridHeight) {
    return fail(cudaErrorInvalidConfiguration,
                join("invalid configuration: grid ", uint3(grid)));
  }
  if (config.dynamicSmemBytes > static_cast<std::size_t>(shared_limit)) {
    return fail(cudaErrorInvalidValue,
                join("invalid argument: ", config.dynamicSmemBytes,
                     " bytes of shared memory, of ", shared_limit));
  }
  return cudaSuccess;
}

void set_up_grid(const cudaLaunchConfig_t& config,
                 const std::function<void()>& thread) {
  Machine& m = machine();
  gridDim = config.gridDim;
  blockDim = config.blockDim;
  m.thread_count = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  m.kernel = &thread;
  m.shared.reset(new std::byte[config.dynamicSmemBytes]);
  while (static_cast<int>(m.threads.size()) < m.thread_count) {
    m.threads.push_back(
        std::make_unique<Thread>(static_cast<int>(m.threads.size())));
  }
}

std::vector<std::uint64_t> draw_block_order() {
  std::vector<std::uint64_t> blocks(std::uint64_t{gridDim.x} * gridDim.y *
                                    gridDim.z);
  std::iota(blocks.begin(), blocks.end(), std::uint64_t{0});
  std::shuffle(blocks.begin(), blocks.end(), machine().random);
  return blocks;
}

}  // namespace

// What kernels call

uint4* dynamic_shared_memory() {
  return reinterpret_cast<uint4*>(machine().shared.get());
}

int lane() { return machine().running->lane(); }

unsigned live_lanes() {
  unsigned lanes = 0;
  for (int lane = 0; lane < warpSize; ++lane) {
    const Thread* thread = lane_of_warp(*machine().running, lane);
    if (thread != nullptr && thread->state != State::kExited) {
      lanes |= 1u << lane;
    }
  }
  return lanes;
}

int block_count(bool predicate, Site site) {
  Machine& m = machine();
  Thread& thread = *m.running;
  thread.state = State::kAtBarrier;
  thread.site = site;
  thread.value = predicate;
  m.at_barrier.push_back(&thread);
  open_barrier_if_all_arrived();
  wait();
  return static_cast<int>(thread.value);
}

unsigned warp_ballot(unsigned mask, bool predicate, Site site) {
  return static_cast<unsigned>(
      meet_warp(Collective::kBallot, mask, predicate, lane(), site));
}

void warp_barrier(unsigned mask, Site site) {
  meet_warp(Collective::kBarrier, mask, 0, lane(), site);
}

std::uint64_t warp_exchange(unsigned mask, std::uint64_t value, int source_lane,
                            Site site) {
  return meet_warp(Collective::kExchange, mask, value, source_lane, site);
}

void check_width(int width, Site site) {
  if (width >= 1 && width <= warpSize && (width & (width - 1)) == 0) return;
  machine().failure = join(where(*machine().running), " at ", site,
                           " shuffles with a width of ", width);
  abandon_block();
}

void trap(Site site) {
  machine().failure = join(where(*machine().running), " trapped at ", site);
  abandon_block();
}

// What the host calls

void set_seed(unsigned seed) { machine().random.seed(seed); }

cudaError_t allow_shared_bytes(const void* kernel, int bytes) {
  if (bytes < 0 || bytes > kSharedBytesOfBlock) {
    return fail(cudaErrorInvalidValue,
                join("invalid argument: ", bytes,
                     " bytes of shared memory, of ", kSharedBytesOfBlock));
  }
  machine().allowed_shared_bytes[kernel] = bytes;
  return cudaSuccess;
}

int resident_blocks(int block_threads, std::size_t shared_bytes) {
  const int by_threads = kMaxResidentThreads / std::max(block_threads, 1);
  const auto by_shared =
      static_cast<int>(kSharedBytesOfMultiprocessor /
                       (shared_bytes + kSharedBytesReservedPerBlock));
  return std::min({by_threads, by_shared, kMaxResidentBlocks});
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel,
                   const std::function<void()>& thread) {
  Machine& m = machine();
  const std::lock_guard<std::mutex> lock(m.in_use);
  const int shared_limit =
      std::max(kSharedBytesWithoutOptIn, m.allowed_shared_bytes[kernel]);
  if (const cudaError_t error = check_limits(config, shared_limit)) {
    return error;
  }
  set_up_grid(config, thread);
  for (const std::uint64_t block : draw_block_order()) {
    const std::uint64_t row = block / gridDim.x;
    blockIdx = {static_cast<unsigned>(block % gridDim.x),
                static_cast<unsigned>(row % gridDim.y),
                static_cast<unsigned>(row / gridDim.y)};
    std::memset(m.shared.get(), kUnwritten, config.dynamicSmemBytes);
    run_block();
    if (!m.failure) continue;
    const std::string message = *m.failure;
    m.failure.reset();
    m.threads.clear();  // their stacks are in the middle of the kernel
    return fail(cudaErrorLaunchFailure, message);
  }
  return cudaSuccess;
}

}  // namespace cuda_emulator

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error"
                              : cuda_emulator::machine().message.c_str();
}

cudaError_t cudaPeekAtLastError() {
  return cuda_emulator::machine().last_error;
}

cudaError_t cudaGetLastError() {
  return std::exchange(cuda_emulator::machine().last_error, cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute,
                                   int /*device*/) {
  using namespace cuda_emulator;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = kMaxBlockThreads;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = kSharedBytesWithoutOptIn;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = warpSize;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = 50 << 20;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = kMaxResidentThreads;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = kSharedBytesOfMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = kSharedBytesOfBlock;
      return cudaSuccess;
  }
  return fail(cudaErrorInvalidValue, "invalid argument: attribute");
}
