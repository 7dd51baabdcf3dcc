// Warps, and the unrolling of loops, in kernels for the GPU.
#pragma once

#include <cstdint>

// VTADL_UNROLL is for loops over arrays that have to stay in registers.
// VTADL_UNROLL_BY is for loops that have more loads in flight when unrolled.
#ifdef __CUDACC__
#define VTADL_UNROLL _Pragma("unroll")
#define VTADL_PRAGMA(text) _Pragma(#text)
#define VTADL_UNROLL_BY(count) VTADL_PRAGMA(unroll count)
#else
#define VTADL_UNROLL
#define VTADL_UNROLL_BY(count)
#endif

namespace vtadl {

constexpr int kWarp = 32;
constexpr unsigned kFullMask = 0xffffffffu;

}  // namespace vtadl
