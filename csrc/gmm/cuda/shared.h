// Kernels for a mixture, standard deviations for each feature, that many
// samples share. They activate its parameters once for a tile of samples, and
// are bound by arithmetic where D and K are large.
#pragma once

#include "gmm/cuda/device.h"

namespace vtadl::gmm {

constexpr int kSharedBlock = 128;
constexpr int kQuad = 4;  // components, or samples, that a thread has at a time

// Which sample the shared kernels read where there is none.
constexpr int64_t kNoSample = -1;

// Parameters of one feature of one component. Zeros where there is none.
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

// Samples first, first + 1, … of those that read the row; all threads together.
__device__ inline void load_samples(const RowMap& rows, int64_t row,
                                    int64_t first, int count,
                                    int64_t* samples) {
  for (int s = threadIdx.x; s < count; s += kSharedBlock) {
    samples[s] =
        first + s < rows.repeats ? rows.sample(row, first + s) : kNoSample;
  }
}

// ------------------------------------------------------------------- forward

constexpr int kTileComponents = kQuad * kSharedBlock / kWarp;

template <typename T, int kSamples>
struct ForwardRoom {
  static constexpr int kFeatures = 128 / int(sizeof(T));
  static constexpr int kTileSamples = kWarp * kSamples;

  // The padding keeps most writes of a transposed tile in different banks.
  T x[kFeatures][kTileSamples + kSamples];
  T mean[kFeatures][kTileComponents];
  T inverse_std[kFeatures][kTileComponents];
  T log_std[kFeatures][kTileComponents];
  int64_t sample[kTileSamples];
};

template <typename Scalar, typename Room, typename T = Accumulate<Scalar>>
__device__ void load_forward_tile(const GmmProblem& p, int64_t row,
                                  int64_t first_k, int64_t first_d,
                                  int features, const Floor<T>& floor,
                                  Room& room) {
  for (int i = threadIdx.x; i < features * Room::kTileSamples;
       i += kSharedBlock) {
    const int64_t n = room.sample[i / features];
    room.x[i % features][i / features] =
        n == kNoSample ? T(0)
                       : static_cast<T>(sample_features<Scalar>(
                             p, n)[first_d + i % features]);
  }
  for (int i = threadIdx.x; i < features * kTileComponents; i += kSharedBlock) {
    const int d = i % features, k = i / features;
    const auto parameter =
        activated_parameter<Scalar>(p, row, first_k + k, first_d + d, floor);
    room.mean[d][k] = parameter.mean;
    room.inverse_std[d][k] = parameter.scale.inverse_std;
    room.log_std[d][k] = parameter.scale.log_std;
  }
}

// What a thread computes: 4 components of kSamples samples.
template <typename T, int kSamples>
struct ForwardSums {
  T distance[kSamples][kQuad] = {}, log_det[kQuad] = {};

  __device__ void add(const ForwardRoom<T, kSamples>& room, int d, int sample,
                      int component) {
    T x[kSamples], mean[kQuad], inverse_std[kQuad], log_std[kQuad];
    load(&room.x[d][sample], x);
    load(&room.mean[d][component], mean);
    load(&room.inverse_std[d][component], inverse_std);
    load(&room.log_std[d][component], log_std);
    VTADL_UNROLL
    for (int k = 0; k < kQuad; ++k) {
      log_det[k] += log_std[k];
      VTADL_UNROLL
      for (int s = 0; s < kSamples; ++s) {
        const T z = (x[s] - mean[k]) * inverse_std[k];
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

// log N_k. A block per tile of 16 components and 32·kSamples samples of one
// row. Reads x once for every 16 components, 1/16 U, and writes N·K elements; 3
// operations per element of U. 128 registers at most: a quarter of the threads
// that a multiprocessor holds.
template <typename Scalar, int kSamples, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kSharedBlock, 4)
    shared_component_kernel(GmmForward p, Floor<T> floor) {
  using Room = ForwardRoom<T, kSamples>;
  Room& room = *shared_memory<Room>();
  const RowMap& rows = p.mu.rows;
  const int64_t component_tiles =
      (p.components + kTileComponents - 1) / kTileComponents;
  const int64_t sample_tiles =
      (rows.repeats + Room::kTileSamples - 1) / Room::kTileSamples;
  const int component = threadIdx.x / kWarp * kQuad;
  const int sample = threadIdx.x % kWarp * kSamples;
  for (int64_t item = blockIdx.x;
       item < rows.rows * sample_tiles * component_tiles; item += gridDim.x) {
    const int64_t first_k = item % component_tiles * kTileComponents;
    const int64_t tile = item / component_tiles, row = tile / sample_tiles;
    __syncthreads();
    load_samples(rows, row, tile % sample_tiles * Room::kTileSamples,
                 Room::kTileSamples, room.sample);
    ForwardSums<T, kSamples> sums;
    for (int64_t d = 0; d < p.features; d += Room::kFeatures) {
      const int features = int(min(int64_t(Room::kFeatures), p.features - d));
      __syncthreads();
      load_forward_tile<Scalar>(p, row, first_k, d, features, floor, room);
      __syncthreads();
      for (int i = 0; i < features; ++i) sums.add(room, i, sample, component);
    }
    sums.store(p, room.sample + sample, first_k + component);
  }
}

// ------------------------------------------------------------- gradient of x

constexpr int kPair = 2;  // features that a thread has at a time

template <typename T>
struct XBackwardRoom {
  static constexpr int kComponents = 8;
  static constexpr int kFeatures = kPair * kWarp;
  static constexpr int kTileSamples = kQuad * kSharedBlock;  // at most

  T weight[kComponents][kTileSamples];
  T mean[kComponents][kFeatures], inverse_std[kComponents][kFeatures];
  int64_t sample[kTileSamples];
};

template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void load_x_backward_tile(const GmmBackward& p, int64_t row,
                                     int64_t first_k, int components,
                                     int64_t first_d, int features, int samples,
                                     const Floor<T>& floor,
                                     XBackwardRoom<T>& room) {
  for (int i = threadIdx.x; i < samples * components; i += kSharedBlock) {
    const int64_t n = room.sample[i / components];
    const int64_t k = first_k + i % components;
    room.weight[i % components][i / components] =
        n == kNoSample ? T(0) : component_weights<T>(p)[n * p.components + k];
  }
  for (int i = threadIdx.x; i < features * components; i += kSharedBlock) {
    const int k = i / features, d = i % features;
    const auto parameter =
        activated_parameter<Scalar>(p, row, first_k + k, first_d + d, floor);
    room.mean[k][d] = parameter.mean;
    room.inverse_std[k][d] = parameter.scale.inverse_std;
  }
}

// What a thread computes: 2 features, `step` apart, of 4 samples.
template <typename Scalar, typename T = Accumulate<Scalar>>
struct XGrads {
  T x[kQuad][kPair] = {}, grad[kQuad][kPair] = {};

  // Calls body with each sample, feature, and their indices here.
  template <typename Body>
  __device__ static void for_each(const GmmBackward& p, const int64_t* samples,
                                  int64_t first_d, int step, const Body& body) {
    VTADL_UNROLL
    for (int s = 0; s < kQuad; ++s) {
      VTADL_UNROLL
      for (int j = 0; j < kPair; ++j) {
        const int64_t n = samples[s], d = first_d + j * step;
        if (n != kNoSample && d < p.features) body(n, d, s, j);
      }
    }
  }

  __device__ void add(const XBackwardRoom<T>& room, int k, int sample,
                      int column, int step) {
    T weight[kQuad];
    load(&room.weight[k][sample], weight);
    VTADL_UNROLL
    for (int j = 0; j < kPair; ++j) {
      const T mean = room.mean[k][column + j * step];
      const T inverse_std = room.inverse_std[k][column + j * step];
      VTADL_UNROLL
      for (int s = 0; s < kQuad; ++s) {
        const T pull =
            weight[s] * ((x[s][j] - mean) * inverse_std) * inverse_std;
        grad[s][j] -= weight[s] == 0 ? T(0) : pull;
      }
    }
  }
};

// Gradient of x. A block per tile of samples of one row and of 2·columns
// features. Reads x once, the weights once for every 64 features, and writes
// N·D elements; 4 operations per element of U. 128 registers at most: a quarter
// of the threads that a multiprocessor holds.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kSharedBlock, 4)
    shared_x_backward_kernel(GmmBackward p, int columns, Floor<T> floor) {
  using Room = XBackwardRoom<T>;
  Room& room = *shared_memory<Room>();
  const RowMap& rows = p.mu.rows;
  const int features = kPair * columns;
  const int samples = kQuad * kSharedBlock / columns;
  const int column = threadIdx.x % columns;
  const int sample = threadIdx.x / columns * kQuad;
  const int64_t feature_tiles = (p.features + features - 1) / features;
  const int64_t sample_tiles = (rows.repeats + samples - 1) / samples;
  for (int64_t item = blockIdx.x;
       item < rows.rows * sample_tiles * feature_tiles; item += gridDim.x) {
    const int64_t first_d = item % feature_tiles * features;
    const int64_t tile = item / feature_tiles, row = tile / sample_tiles;
    __syncthreads();
    load_samples(rows, row, tile % sample_tiles * samples, samples,
                 room.sample);
    __syncthreads();
    XGrads<Scalar> own;
    const auto for_each_own = [&](const auto& body) {
      own.for_each(p, room.sample + sample, first_d + column, columns, body);
    };
    for_each_own([&](int64_t n, int64_t d, int s, int j) {
      own.x[s][j] = static_cast<T>(sample_features<Scalar>(p, n)[d]);
    });
    for (int64_t k = 0; k < p.components; k += Room::kComponents) {
      const int components =
          int(min(int64_t(Room::kComponents), p.components - k));
      __syncthreads();
      load_x_backward_tile<Scalar>(p, row, k, components, first_d, features,
                                   samples, floor, room);
      __syncthreads();
      for (int i = 0; i < components; ++i) {
        own.add(room, i, sample, column, columns);
      }
    }
    for_each_own([&](int64_t n, int64_t d, int s, int j) {
      static_cast<T*>(p.grad_x)[n * p.features + d] = own.grad[s][j];
    });
  }
}

// ----------------------------------------------------------------- launchers

// Samples of a row that are worth a tile.
constexpr int64_t kMinRepeats = 32;

inline bool is_one_mixture_for_many(const GmmProblem& p) {
  return p.mu.rows == p.scale.rows && p.mu.rows.repeats >= kMinRepeats;
}

template <typename Scalar, int kSamples>
void shared_components(const GmmForward& p, void* stream) {
  using T = Accumulate<Scalar>;
  using Room = ForwardRoom<T, kSamples>;
  const int64_t tiles = p.mu.rows.rows *
                        divide_up(p.mu.rows.repeats, Room::kTileSamples) *
                        divide_up(p.components, kTileComponents);
  launch("gmm shared_component_kernel",
         shared_component_kernel<Scalar, kSamples>,
         {grid_size(tiles), kSharedBlock, sizeof(Room)}, stream, p,
         Floor<T>(p.min_std));
}

template <typename Scalar>
void shared_components(const GmmForward& p, void* stream) {
  if (p.mu.rows.repeats < kWarp * kQuad) {
    shared_components<Scalar, 1>(p, stream);
  } else {
    shared_components<Scalar, kQuad>(p, stream);
  }
}

template <typename Scalar>
void shared_x_backward(const GmmBackward& p, void* stream) {
  if (!p.grad_x) return;
  using T = Accumulate<Scalar>;
  const int columns = power_of_two(divide_up(p.features, kPair), kWarp);
  const int64_t tiles =
      p.mu.rows.rows *
      divide_up(p.mu.rows.repeats, kQuad * kSharedBlock / columns) *
      divide_up(p.features, kPair * columns);
  launch("gmm shared_x_backward_kernel", shared_x_backward_kernel<Scalar>,
         {grid_size(tiles), kSharedBlock, sizeof(XBackwardRoom<T>)}, stream, p,
         columns, Floor<T>(p.min_std));
}

}  // namespace vtadl::gmm
