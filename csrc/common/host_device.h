// How functions in headers are compiled.
#pragma once

// Functions in headers are always inlined on the host: a copy compiled for
// AVX-512 must never be the one that the linker keeps for every caller.
#define VTADL_HOST_INLINE inline __attribute__((always_inline))

#ifdef __CUDACC__
#define VTADL_INLINE __host__ __device__ __forceinline__
#else
#define VTADL_INLINE VTADL_HOST_INLINE
#endif
