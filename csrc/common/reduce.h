// Reductions over the threads of a warp, of a block and of a cluster. Each adds
// in a fixed order, so that results are the same on every run.
#pragma once

#include "common/cluster.h"
#include "common/warp.h"

namespace vtadl {

// ---------------------------------------------------------------------- warp

// The sum over groups of `width` lanes, a power of two; every lane gets it.
// All lanes of the warp have to take part.
template <typename T>
__device__ T warp_sum(T value, int width = kWarp) {
  for (int offset = width / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kFullMask, value, offset);
  }
  return value;
}

// The largest value of each group of `width` lanes, a power of two; every lane
// gets it. All lanes of the warp have to take part.
template <typename T>
__device__ T warp_max(T value, int width) {
  for (int offset = width / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kFullMask, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

// The sum over the lanes that are equal modulo `width`, a power of two; every
// lane gets it. All lanes of the warp have to take part.
template <typename T>
__device__ T warp_sum_of_groups(T value, int width) {
  for (int offset = kWarp / 2; offset >= width; offset /= 2) {
    value += __shfl_xor_sync(kFullMask, value, offset);
  }
  return value;
}

// --------------------------------------------------------------------- block

// The functions below use shared memory `smem`. They wait until no thread
// needs what was read from it before; all threads of the block have to take
// part.

// The sums over a one-dimensional block; every thread gets them. `smem` holds
// kCount values for each warp.
template <int kCount, typename T>
__device__ void block_sums(T (&values)[kCount], T* smem) {
  const int warps = blockDim.x / kWarp;
  __syncthreads();
  VTADL_UNROLL
  for (int s = 0; s < kCount; ++s) {
    const T sum = warp_sum(values[s]);
    if (threadIdx.x % kWarp == 0) smem[s * warps + threadIdx.x / kWarp] = sum;
  }
  __syncthreads();
  VTADL_UNROLL
  for (int s = 0; s < kCount; ++s) {
    values[s] = 0;
    for (int i = 0; i < warps; ++i) values[s] += smem[s * warps + i];
  }
}

// The sum over the threads of a one-dimensional block that are equal modulo
// `width`, a power of two; the first `width` threads get it. `smem` holds a
// value for each thread.
template <typename T>
__device__ T block_sum_of_groups(T value, int width, T* smem) {
  const unsigned stride = width < kWarp ? kWarp : width;
  value = warp_sum_of_groups(value, width);
  __syncthreads();
  smem[threadIdx.x] = value;
  __syncthreads();
  for (unsigned other = threadIdx.x + stride;
       threadIdx.x < stride && other < blockDim.x; other += stride) {
    value += smem[other];
  }
  return value;
}

// The sums over the block's y, a power of two; threads with threadIdx.y == 0
// get them. `smem` holds kCount values for each thread.
template <int kCount, typename T>
__device__ void sum_over_y(T (&values)[kCount], T* smem) {
  if (blockDim.y == 1) return;
  const int row = blockDim.x, plane = row * blockDim.y,
            block = plane * blockDim.z;
  const int own = threadIdx.z * plane + threadIdx.y * row + threadIdx.x;
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    VTADL_UNROLL
    for (int j = 0; j < kCount; ++j) smem[j * block + own] = values[j];
    __syncthreads();
    if (int(threadIdx.y) >= half) continue;
    VTADL_UNROLL
    for (int j = 0; j < kCount; ++j) {
      values[j] += smem[j * block + own + half * row];
    }
  }
}

// The sum over the block's y, or over its x and y where `all`; both are powers
// of two, z is 1. The threads with threadIdx.y == 0, or the first one, get it.
// `smem` holds a value for each thread.
template <typename T>
__device__ T block_sum(T value, bool all, T* smem) {
  __syncthreads();
  smem[threadIdx.y * blockDim.x + threadIdx.x] = value;
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) {
      smem[threadIdx.y * blockDim.x + threadIdx.x] +=
          smem[(threadIdx.y + half) * blockDim.x + threadIdx.x];
    }
  }
  for (unsigned half = all ? blockDim.x / 2 : 0; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y == 0 && threadIdx.x < half) {
      smem[threadIdx.x] += smem[threadIdx.x + half];
    }
  }
  __syncthreads();
  return smem[threadIdx.x];
}

// ------------------------------------------------------------------- cluster

// The sum of element `at` of the arrays that lie at `smem` in the first `ranks`
// blocks of the cluster, which have met since they wrote them. Where it is
// called for many elements, the arrays' addresses do not depend on these: one
// for each element would cost registers.
template <typename T>
__device__ T cluster_sum(T* smem, int at, int ranks) {
  T total = 0;
  for (int rank = 0; rank < ranks; ++rank)
    total += map_shared_rank(smem, rank)[at];
  return total;
}

}  // namespace vtadl
