// What kernels for the GPU share about the threads of a warp.
#pragma once

#include <cstdint>

// For loops over arrays that have to stay in registers; and for others, where
// it brings more loads under way.
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
