// What a kernel may call.
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

// Where a kernel calls a collective: threads that meet must meet at one place.
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

uint4* dynamic_shared_memory();
int block_count(bool predicate, Site site);  // a barrier
unsigned warp_ballot(unsigned mask, bool predicate, Site site);
void warp_barrier(unsigned mask, Site site);
std::uint64_t warp_exchange(unsigned mask, std::uint64_t value, int source_lane,
                            Site site);
unsigned live_lanes();
int lane();
void check_width(int width, Site site);
[[noreturn]] void trap(Site site);

template <typename To, typename From>
To bit_copy(From from) {
  static_assert(std::is_trivially_copyable_v<To> &&
                std::is_trivially_copyable_v<From>);
  To to{};
  constexpr std::size_t kBytes =
      sizeof(To) < sizeof(From) ? sizeof(To) : sizeof(From);
  std::memcpy(static_cast<void*>(&to), &from, kBytes);
  return to;
}

template <typename T>
T exchange(unsigned mask, T value, int source_lane, Site site) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  return bit_copy<T>(
      warp_exchange(mask, bit_copy<std::uint64_t>(value), source_lane, site));
}

template <typename T, typename Operation>
T update_atomically(T* address, Operation operation) {
  T old{};
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  T updated = operation(old);
  while (!__atomic_compare_exchange(address, &old, &updated, false,
                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    updated = operation(old);
  }
  return old;
}

template <typename T>
using Same = std::common_type_t<T>;  // not deduced

}  // namespace cuda_emulator

// Barriers

inline void __syncthreads(
    cuda_emulator::Site site = cuda_emulator::Site::here()) {
  cuda_emulator::block_count(true, site);
}
inline int __syncthreads_count(
    int predicate, cuda_emulator::Site site = cuda_emulator::Site::here()) {
  return cuda_emulator::block_count(predicate != 0, site);
}
inline int __syncthreads_or(
    int predicate, cuda_emulator::Site site = cuda_emulator::Site::here()) {
  return cuda_emulator::block_count(predicate != 0, site) != 0;
}
inline int __syncthreads_and(
    int predicate, cuda_emulator::Site site = cuda_emulator::Site::here()) {
  return cuda_emulator::block_count(predicate == 0, site) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu,
                       cuda_emulator::Site site = cuda_emulator::Site::here()) {
  cuda_emulator::warp_barrier(mask, site);
}
inline void __threadfence_block() { asm volatile("" ::: "memory"); }
inline void __threadfence() { asm volatile("" ::: "memory"); }

// Votes and shuffles

inline unsigned __activemask() { return cuda_emulator::live_lanes(); }
inline unsigned __ballot_sync(
    unsigned mask, int predicate,
    cuda_emulator::Site site = cuda_emulator::Site::here()) {
  return cuda_emulator::warp_ballot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate,
                      cuda_emulator::Site site = cuda_emulator::Site::here()) {
  return cuda_emulator::warp_ballot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      cuda_emulator::Site site = cuda_emulator::Site::here()) {
  return cuda_emulator::warp_ballot(mask, predicate == 0, site) == 0;
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              cuda_emulator::Site site = cuda_emulator::Site::here()) {
  cuda_emulator::check_width(width, site);
  const int first = cuda_emulator::lane() & ~(width - 1);
  return cuda_emulator::exchange(mask, value, first | (source & (width - 1)),
                                 site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 cuda_emulator::Site site = cuda_emulator::Site::here()) {
  cuda_emulator::check_width(width, site);
  const int lane = cuda_emulator::lane();
  const int first = lane & ~(width - 1);
  const int source = lane - static_cast<int>(delta);
  return cuda_emulator::exchange(mask, value, source < first ? lane : source,
                                 site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   cuda_emulator::Site site = cuda_emulator::Site::here()) {
  cuda_emulator::check_width(width, site);
  const int lane = cuda_emulator::lane();
  const int last = lane | (width - 1);
  const int source = lane + static_cast<int>(delta);
  return cuda_emulator::exchange(mask, value, source > last ? lane : source,
                                 site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  cuda_emulator::Site site = cuda_emulator::Site::here()) {
  cuda_emulator::check_width(width, site);
  const int lane = cuda_emulator::lane();
  const int last = lane | (width - 1);
  const int source = lane ^ lane_mask;
  return cuda_emulator::exchange(mask, value, source > last ? lane : source,
                                 site);
}

inline void __trap(cuda_emulator::Site site = cuda_emulator::Site::here()) {
  cuda_emulator::trap(site);
}

// Atomics

#define VTADL_ATOMIC(name, result)                                   \
  template <typename T>                                              \
  T name(T* address, cuda_emulator::Same<T> value) {                 \
    return cuda_emulator::update_atomically(                         \
        address, [value](T old) { return static_cast<T>(result); }); \
  }
VTADL_ATOMIC(atomicAdd, old + value)
VTADL_ATOMIC(atomicSub, old - value)
VTADL_ATOMIC(atomicMin, value < old ? value : old)
VTADL_ATOMIC(atomicMax, old < value ? value : old)
VTADL_ATOMIC(atomicAnd, old& value)
VTADL_ATOMIC(atomicOr, old | value)
VTADL_ATOMIC(atomicXor, old ^ value)
VTADL_ATOMIC(atomicExch, ((void)old, value))
VTADL_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef VTADL_ATOMIC

template <typename T>
T atomicCAS(T* address, cuda_emulator::Same<T> expected,
            cuda_emulator::Same<T> desired) {
  return cuda_emulator::update_atomically(
      address, [=](T old) { return old == expected ? desired : old; });
}

// Loads and stores with a hint for the cache

template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T __ldca(const T* address) {
  return *address;
}
template <typename T>
T __ldcg(const T* address) {
  return *address;
}
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
void __stcg(T* address, cuda_emulator::Same<T> value) {
  *address = value;
}
template <typename T>
void __stcs(T* address, cuda_emulator::Same<T> value) {
  *address = value;
}

// Integers

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32);
}

template <typename T>
constexpr T min(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return std::fmin(a, b);
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return std::fmax(a, b);
  return a < b ? b : a;
}

// Floating point. The approximate functions are exact here.

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return 1.0f / std::sqrt(x); }
inline float __saturatef(float x) {
  return std::fmin(std::fmax(x, 0.0f), 1.0f);
}
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __fma_rn(double x, double y, double z) {
  return std::fma(x, y, z);
}

inline int __float_as_int(float x) { return cuda_emulator::bit_copy<int>(x); }
inline unsigned __float_as_uint(float x) {
  return cuda_emulator::bit_copy<unsigned>(x);
}
inline float __int_as_float(int x) { return cuda_emulator::bit_copy<float>(x); }
inline float __uint_as_float(unsigned x) {
  return cuda_emulator::bit_copy<float>(x);
}
inline long long __double_as_longlong(double x) {
  return cuda_emulator::bit_copy<long long>(x);
}
inline double __longlong_as_double(long long x) {
  return cuda_emulator::bit_copy<double>(x);
}
inline int __float2int_rn(float x) { return static_cast<int>(std::rint(x)); }
inline int __float2int_rd(float x) { return static_cast<int>(std::floor(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
