// VTADL_INLINE: a function of both the host and the device.
#pragma once

#ifdef __CUDACC__
#define VTADL_INLINE __host__ __device__ __forceinline__
#else
// Always inlined: a copy compiled for AVX-512 must never be the one that the
// linker keeps for every caller.
#define VTADL_INLINE inline __attribute__((always_inline))
#endif
