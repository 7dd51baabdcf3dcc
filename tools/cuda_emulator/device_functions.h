// The functions and variables of CUDA that kernels may use.
#pragma once

#include <math.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "vector_types.h"

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_emulator {

// The place in a kernel that calls a collective. The threads that take part
// must agree on it.
struct Site {
  const char* function;
  const char* file;
  int line;

  static constexpr Site here(const char* function = __builtin_FUNCTION(),
                             const char* file = __builtin_FILE(),
                             int line = __builtin_LINE()) {
    return {function, file, line};
  }
};

enum class Collective { kBarrier, kBallot, kShuffle };

uint4* dynamic_shared_memory();
int own_lane();
unsigned live_lanes();
void trap(Site site);

// The rank of the running block.
int rank_in_cluster();

// Waits for all threads of the cluster.
void cluster_barrier(Site site = Site::here());

// The address, in the dynamic shared memory of block `rank` of the cluster, of
// what lies at `here` in that of the running block.
void* map_shared_rank(void* here, int rank, Site site = Site::here());

// Waits for all threads of the block. Returns how many have the predicate.
int block_barrier(bool predicate, Site site);

// Waits for the lanes of the mask. A ballot returns which lanes gave a value
// other than 0; a shuffle returns the value of the source lane.
std::uint64_t warp_collective(Collective collective, unsigned mask,
                              std::uint64_t value, int source_lane, Site site);

inline unsigned ballot(unsigned mask, bool predicate, Site site) {
  return static_cast<unsigned>(
      warp_collective(Collective::kBallot, mask, predicate, own_lane(), site));
}

template <typename To, typename From>
To copy_bits(From from) {
  constexpr std::size_t kBytes =
      sizeof(To) < sizeof(From) ? sizeof(To) : sizeof(From);
  To to{};
  std::memcpy(static_cast<void*>(&to), &from, kBytes);
  return to;
}

template <typename T, typename SourceLane>
T shuffle(unsigned mask, T value, int width, SourceLane source_lane,
          Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  const bool valid_width = width > 0 && warpSize % width == 0;
  const int own = own_lane();
  const int first = own & -width;
  const int source = source_lane(own, first, first + width - 1);
  return copy_bits<T>(warp_collective(Collective::kShuffle, mask,
                                      copy_bits<std::uint64_t>(value),
                                      valid_width ? source : -1, site));
}

template <typename T, typename Update>
T update_atomically(T* address, Update update) {
  T old{};
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  T updated = update(old);
  while (!__atomic_compare_exchange(address, &old, &updated, false,
                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    updated = update(old);
  }
  return old;
}

template <typename T>
using Same = std::common_type_t<T>;  // T is not deduced from it

}  // namespace cuda_emulator

// ---------------------------------------------------------- barriers, votes

#define VTADL_SITE cuda_emulator::Site site = cuda_emulator::Site::here()

inline void __syncthreads(VTADL_SITE) {
  cuda_emulator::block_barrier(true, site);
}
inline int __syncthreads_count(int predicate, VTADL_SITE) {
  return cuda_emulator::block_barrier(predicate != 0, site);
}
inline int __syncthreads_or(int predicate, VTADL_SITE) {
  return cuda_emulator::block_barrier(predicate != 0, site) != 0;
}
inline int __syncthreads_and(int predicate, VTADL_SITE) {
  return cuda_emulator::block_barrier(predicate == 0, site) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffff, VTADL_SITE) {
  using namespace cuda_emulator;
  warp_collective(Collective::kBarrier, mask, 0, own_lane(), site);
}
inline unsigned __activemask() { return cuda_emulator::live_lanes(); }
inline unsigned __ballot_sync(unsigned mask, int predicate, VTADL_SITE) {
  return cuda_emulator::ballot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, VTADL_SITE) {
  return cuda_emulator::ballot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, VTADL_SITE) {
  return cuda_emulator::ballot(mask, predicate == 0, site) == 0;
}
inline void __threadfence_block() { asm volatile("" ::: "memory"); }
inline void __threadfence() { asm volatile("" ::: "memory"); }
inline void __trap(VTADL_SITE) { cuda_emulator::trap(site); }

// ------------------------------------------------------------------ shuffles

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, VTADL_SITE) {
  const auto lane = [=](int, int first, int last) {
    return first + (source & (last - first));
  };
  return cuda_emulator::shuffle(mask, value, width, lane, site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 VTADL_SITE) {
  const auto lane = [=](int own, int first, int) {
    const int source = own - static_cast<int>(delta);
    return source < first ? own : source;
  };
  return cuda_emulator::shuffle(mask, value, width, lane, site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   VTADL_SITE) {
  const auto lane = [=](int own, int, int last) {
    const int source = own + static_cast<int>(delta);
    return source > last ? own : source;
  };
  return cuda_emulator::shuffle(mask, value, width, lane, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int flipped, int width = 32,
                  VTADL_SITE) {
  const auto lane = [=](int own, int, int last) {
    const int source = own ^ flipped;
    return source > last ? own : source;
  };
  return cuda_emulator::shuffle(mask, value, width, lane, site);
}
#undef VTADL_SITE

// ------------------------------------------------------------------- atomics

#define VTADL_ATOMIC(name, result)                                    \
  template <typename T>                                               \
  T name(T* address, cuda_emulator::Same<T> value) {                  \
    return cuda_emulator::update_atomically(                          \
        address, [=](T old) -> T { return static_cast<T>(result); }); \
  }
VTADL_ATOMIC(atomicAdd, old + value)
VTADL_ATOMIC(atomicSub, old - value)
VTADL_ATOMIC(atomicMin, value < old ? value : old)
VTADL_ATOMIC(atomicMax, old < value ? value : old)
VTADL_ATOMIC(atomicAnd, old& value)
VTADL_ATOMIC(atomicOr, old | value)
VTADL_ATOMIC(atomicInc, old < value ? old + 1 : 0)
VTADL_ATOMIC(atomicExch, old == old ? value : value)
#undef VTADL_ATOMIC

template <typename T>
T atomicCAS(T* address, cuda_emulator::Same<T> expected,
            cuda_emulator::Same<T> desired) {
  return cuda_emulator::update_atomically(
      address, [=](T old) { return old == expected ? desired : old; });
}

// ---------------------------- loads and stores with a hint for the caches

#define VTADL_LOAD(name)     \
  template <typename T>      \
  T name(const T* address) { \
    return *address;         \
  }
#define VTADL_STORE(name)                               \
  template <typename T>                                 \
  void name(T* address, cuda_emulator::Same<T> value) { \
    *address = value;                                   \
  }
VTADL_LOAD(__ldg)
VTADL_LOAD(__ldca)
VTADL_LOAD(__ldcg)
VTADL_LOAD(__ldcs)
VTADL_STORE(__stcg)
VTADL_STORE(__stcs)
#undef VTADL_LOAD
#undef VTADL_STORE

// ------------------------------------------------------------------- numbers

// The functions that are approximate on a GPU are exact here.

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(x); }
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>(std::uint64_t{x} * y >> 32);
}

template <typename T>
constexpr T min(T x, T y) {
  if constexpr (std::is_floating_point_v<T>) return std::fmin(x, y);
  return y < x ? y : x;
}
template <typename T>
constexpr T max(T x, T y) {
  if constexpr (std::is_floating_point_v<T>) return std::fmax(x, y);
  return x < y ? y : x;
}

inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float rsqrt(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }

inline int __float_as_int(float x) { return cuda_emulator::copy_bits<int>(x); }
inline unsigned __float_as_uint(float x) {
  return cuda_emulator::copy_bits<unsigned>(x);
}
inline float __int_as_float(int x) {
  return cuda_emulator::copy_bits<float>(x);
}
inline float __uint_as_float(unsigned x) {
  return cuda_emulator::copy_bits<float>(x);
}
