// log N_k of a mixture, with a standard deviation of each feature, that many
// samples share. The kernels of this regime activate its parameters once for a
// tile of samples, and are bound by arithmetic where D and K are large.
#pragma once

#include "gmm/cuda/device.h"

namespace vtadl::gmm {

// Stands for a sample where the row has no more of them.
constexpr int64_t kNoSample = -1;

// The parameters of one feature of one component, or zeros where there is none.
template <typename T>
struct Activated {
  T mean;
  ActivatedScale<T> scale;
};

template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ Activated<T> activated_parameter(const GmmProblem& p, int64_t row,
                                            int64_t k, int64_t d,
                                            const Floor<T>& floor) {
  if (k >= p.components || d >= p.features) return {};
  const auto at = [&](const GmmParameter& parameter) {
    return static_cast<T>(static_cast<const Scalar*>(
        parameter.data)[parameter.offset(row, k) + d % parameter.size]);
  };
  return {at(p.mu), activate(p.scale_param, at(p.scale), floor)};
}

// Lists samples first, first + 1, … of those that read the row; all threads of
// the block have to take part.
__device__ inline void load_samples(const RowMap& rows, int64_t row,
                                    int64_t first, int count,
                                    int64_t* samples) {
  for (int s = threadIdx.x; s < count; s += kSharedBlockThreads) {
    samples[s] =
        first + s < rows.repeats ? rows.sample(row, first + s) : kNoSample;
  }
}

// A block holds this of a tile, some features at a time.
template <typename T, int kSamples>
struct SharedForwardSmem {
  static constexpr int kFeatures = kTileFeatureBytes / int(sizeof(T));
  static constexpr int kTileSamples = kWarp * kSamples;

  // The padding keeps most writes of a transposed tile in different banks.
  T x[kFeatures][kTileSamples + kSamples];
  T mean[kFeatures][kTileComponents];
  T inverse_std[kFeatures][kTileComponents];
  T log_std[kFeatures][kTileComponents];
  int64_t sample[kTileSamples];
};

template <typename Scalar, typename Smem, typename T = Accumulate<Scalar>>
__device__ void load_shared_forward_tile(const GmmProblem& p, int64_t row,
                                         int64_t first_k, int64_t first_d,
                                         int features, const Floor<T>& floor,
                                         Smem& smem) {
  for (int i = threadIdx.x; i < features * Smem::kTileSamples;
       i += kSharedBlockThreads) {
    const int64_t n = smem.sample[i / features];
    smem.x[i % features][i / features] =
        n == kNoSample ? T(0)
                       : static_cast<T>(sample_features<Scalar>(
                             p, n)[first_d + i % features]);
  }
  for (int i = threadIdx.x; i < features * kTileComponents;
       i += kSharedBlockThreads) {
    const int d = i % features, k = i / features;
    const auto parameter =
        activated_parameter<Scalar>(p, row, first_k + k, first_d + d, floor);
    smem.mean[d][k] = parameter.mean;
    smem.inverse_std[d][k] = parameter.scale.inverse_std;
    smem.log_std[d][k] = parameter.scale.log_std;
  }
}

// The sums of a thread: 4 components of kSamples samples.
template <typename T, int kSamples>
struct SharedForwardSums {
  T distance[kSamples][kQuad] = {}, log_det[kQuad] = {};

  __device__ void add(const SharedForwardSmem<T, kSamples>& smem, int d,
                      int sample, int component) {
    T x[kSamples], mean[kQuad], inverse_std[kQuad], log_std[kQuad];
    load(&smem.x[d][sample], x);
    load(&smem.mean[d][component], mean);
    load(&smem.inverse_std[d][component], inverse_std);
    load(&smem.log_std[d][component], log_std);
    VTADL_UNROLL
    for (int k = 0; k < kQuad; ++k) {
      log_det[k] += log_std[k];
      VTADL_UNROLL
      for (int s = 0; s < kSamples; ++s) {
        const T z = standardize(x[s], mean[k], inverse_std[k]);
        distance[s][k] += z * z;
      }
    }
  }

  __device__ void store(const GmmForward& p, const int64_t* samples,
                        int64_t first_k) const {
    VTADL_UNROLL
    for (int s = 0; s < kSamples; ++s) {
      VTADL_UNROLL
      for (int k = 0; k < kQuad; ++k) {
        if (samples[s] == kNoSample || first_k + k >= p.components) continue;
        static_cast<T*>(
            p.component_log_prob)[samples[s] * p.components + first_k + k] =
            log_normal(p.features, log_det[k], distance[s][k]);
      }
    }
  }
};

// The kernel writes log N_k. A block serves a tile of 16 components and
// 32·kSamples samples of one row. The kernel reads x once for every 16
// components, 1/16 U, and writes N·K elements; 3 operations per element of U. A
// thread has 128 registers at most: a quarter of the threads that a
// multiprocessor holds are resident.
template <typename Scalar, int kSamples, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kSharedBlockThreads, kSharedBlocksPerSm)
    shared_forward_kernel(GmmForward p, Floor<T> floor) {
  using Smem = SharedForwardSmem<T, kSamples>;
  Smem& smem = *shared_memory<Smem>();
  const RowMap& rows = p.mu.rows;
  const int64_t component_tiles = divide_up(p.components, kTileComponents);
  const int64_t sample_tiles = divide_up(rows.repeats, Smem::kTileSamples);
  const int component = threadIdx.x / kWarp * kQuad;
  const int sample = threadIdx.x % kWarp * kSamples;
  for (int64_t item = blockIdx.x;
       item < rows.rows * sample_tiles * component_tiles; item += gridDim.x) {
    const int64_t first_k = item % component_tiles * kTileComponents;
    const int64_t tile = item / component_tiles, row = tile / sample_tiles;
    __syncthreads();
    load_samples(rows, row, tile % sample_tiles * Smem::kTileSamples,
                 Smem::kTileSamples, smem.sample);
    SharedForwardSums<T, kSamples> sums;
    for (int64_t d = 0; d < p.features; d += Smem::kFeatures) {
      const int features = int(min(int64_t(Smem::kFeatures), p.features - d));
      __syncthreads();
      load_shared_forward_tile<Scalar>(p, row, first_k, d, features, floor,
                                       smem);
      __syncthreads();
      for (int i = 0; i < features; ++i) sums.add(smem, i, sample, component);
    }
    sums.store(p, smem.sample + sample, first_k + component);
  }
}

// ----------------------------------------------------------------- launchers

template <typename Scalar, int kSamples>
void launch_shared_forward(const GmmForward& p, void* stream) {
  using T = Accumulate<Scalar>;
  launch(
      "gmm shared_forward_kernel", shared_forward_kernel<Scalar, kSamples>,
      shared_forward_shape(p, kSamples, sizeof(SharedForwardSmem<T, kSamples>)),
      stream, p, Floor<T>(p.min_std));
}

template <typename Scalar>
void shared_forward(const GmmForward& p, void* stream) {
  if (fills_large_tiles(p)) {
    launch_shared_forward<Scalar, kQuad>(p, stream);
  } else {
    launch_shared_forward<Scalar, 1>(p, stream);
  }
}

}  // namespace vtadl::gmm
