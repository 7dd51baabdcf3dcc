// The gradients of a mixture, with a standard deviation of each feature, that
// many samples share, and of these samples.
#pragma once

#include "gmm/cuda/shared.h"

namespace vtadl::gmm {

// ------------------------------------------------------------- gradient of x

// A block holds this of a tile, some components at a time.
template <typename T>
struct SharedXSmem {
  static constexpr int kComponents = kTileComponentsOfX;
  static constexpr int kFeatures = kPair * kWarp;
  static constexpr int kTileSamples = kQuad * kSharedBlockThreads;  // at most

  T grad[kComponents][kTileSamples];  // with respect to log N_k
  T mean[kComponents][kFeatures], inverse_std[kComponents][kFeatures];
  int64_t sample[kTileSamples];
};

template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void load_shared_x_tile(const GmmBackward& p, int64_t row,
                                   int64_t first_k, int components,
                                   int64_t first_d, int features, int samples,
                                   const Floor<T>& floor,
                                   SharedXSmem<T>& smem) {
  for (int i = threadIdx.x; i < samples * components;
       i += kSharedBlockThreads) {
    const int64_t n = smem.sample[i / components];
    const int64_t k = first_k + i % components;
    smem.grad[i % components][i / components] =
        n == kNoSample ? T(0) : log_normal_grads<T>(p)[n * p.components + k];
  }
  for (int i = threadIdx.x; i < features * components;
       i += kSharedBlockThreads) {
    const int k = i / features, d = i % features;
    const auto parameter =
        activated_parameter<Scalar>(p, row, first_k + k, first_d + d, floor);
    smem.mean[k][d] = parameter.mean;
    smem.inverse_std[k][d] = parameter.scale.inverse_std;
  }
}

// The sums of a thread: 2 features, `step` apart, of 4 samples.
template <typename Scalar, typename T = Accumulate<Scalar>>
struct SharedXSums {
  T x[kQuad][kPair] = {}, grad_x[kQuad][kPair] = {};

  // Calls body with each sample that exists, each feature, and their indices.
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

  __device__ void add(const SharedXSmem<T>& smem, int k, int sample, int column,
                      int step) {
    T grad[kQuad];
    load(&smem.grad[k][sample], grad);
    VTADL_UNROLL
    for (int j = 0; j < kPair; ++j) {
      const T mean = smem.mean[k][column + j * step];
      const T inverse_std = smem.inverse_std[k][column + j * step];
      VTADL_UNROLL
      for (int s = 0; s < kQuad; ++s) {
        const auto part =
            feature_grad(grad[s], standardize(x[s][j], mean, inverse_std));
        grad_x[s][j] -= grad[s] == 0 ? T(0) : part.mean(inverse_std);
      }
    }
  }
};

// The kernel writes the gradient of x. A block serves a tile of samples of one
// row and of 2·columns features. The kernel reads x once, the gradients with
// respect to log N_k once for every 64 features, and writes N·D elements; 4
// operations per element of U. A thread has 128 registers at most: a quarter of
// the threads that a multiprocessor holds are resident.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kSharedBlockThreads, kSharedBlocksPerSm)
    shared_x_backward_kernel(GmmBackward p, int columns, Floor<T> floor) {
  using Smem = SharedXSmem<T>;
  Smem& smem = *shared_memory<Smem>();
  const RowMap& rows = p.mu.rows;
  const int features = kPair * columns;
  const int samples = kQuad * kSharedBlockThreads / columns;
  const int column = threadIdx.x % columns;
  const int sample = threadIdx.x / columns * kQuad;
  const int64_t feature_tiles = divide_up(p.features, features);
  const int64_t sample_tiles = divide_up(rows.repeats, samples);
  for (int64_t item = blockIdx.x;
       item < rows.rows * sample_tiles * feature_tiles; item += gridDim.x) {
    const int64_t first_d = item % feature_tiles * features;
    const int64_t tile = item / feature_tiles, row = tile / sample_tiles;
    __syncthreads();
    load_samples(rows, row, tile % sample_tiles * samples, samples,
                 smem.sample);
    __syncthreads();
    SharedXSums<Scalar> own;
    const auto for_each_own = [&](const auto& body) {
      own.for_each(p, smem.sample + sample, first_d + column, columns, body);
    };
    for_each_own([&](int64_t n, int64_t d, int s, int j) {
      own.x[s][j] = static_cast<T>(sample_features<Scalar>(p, n)[d]);
    });
    for (int64_t k = 0; k < p.components; k += Smem::kComponents) {
      const int components =
          int(min(int64_t(Smem::kComponents), p.components - k));
      __syncthreads();
      load_shared_x_tile<Scalar>(p, row, k, components, first_d, features,
                                 samples, floor, smem);
      __syncthreads();
      for (int i = 0; i < components; ++i) {
        own.add(smem, i, sample, column, columns);
      }
    }
    for_each_own([&](int64_t n, int64_t d, int s, int j) {
      static_cast<T*>(p.grad_x)[n * p.features + d] = own.grad_x[s][j];
    });
  }
}

// ------------------------------------- gradients of the parameters, in slabs

// A slab has two sums: of the gradients with respect to mean / std, and to
// log_std.
enum class SlabSumKind { kStandardizedMean, kLogStd };

// The place where a slab keeps a sum for feature d of component k.
template <typename T>
__device__ T& slab_sum(const GmmBackward& p, const SlabShape& slabs,
                       int64_t row, int64_t slab, int64_t k, SlabSumKind which,
                       int64_t d) {
  const RowMap& rows = p.mu.rows;
  const int64_t n =
      rows.sample(row, slabs.begin(slab, rows.repeats) +
                           static_cast<int64_t>(which) * p.features + d);
  return static_cast<T*>(p.grad_log_normal)[n * p.components + k];
}

// A block holds this of 4 components and a slab.
template <typename T>
struct SlabSmem {
  T* sums;          // a number for each thread
  T* grads;         // with respect to log N_k, of each sample and component
  int64_t* x_rows;  // which rows of x the samples read

  __device__ explicit SlabSmem(int max_size)
      : sums(shared_memory<T>()),
        grads(sums + kSharedBlockThreads),
        x_rows(reinterpret_cast<int64_t*>(grads + kQuad * max_size)) {}

  __device__ void load(const GmmBackward& p, int64_t row, int64_t begin,
                       int size, int64_t first_k) const {
    for (int s = threadIdx.x; s < size; s += kSharedBlockThreads) {
      const int64_t n = p.mu.rows.sample(row, begin + s);
      x_rows[s] = p.x_rows.row(n);
      for (int k = 0; k < kQuad; ++k) {
        grads[s * kQuad + k] =
            first_k + k < p.components
                ? log_normal_grads<T>(p)[n * p.components + first_k + k]
                : T(0);
      }
    }
  }
};

// The sums of a thread: 2 features, `step` apart, of 4 components.
template <typename Scalar, typename T = Accumulate<Scalar>>
struct ThreadSums {
  Activated<T> parameter[kQuad][kPair];
  T sums[2][kQuad][kPair] = {};

  __device__ ThreadSums(const GmmBackward& p, int64_t row, int64_t first_k,
                        int64_t first_d, int step, const Floor<T>& floor) {
    VTADL_UNROLL
    for (int k = 0; k < kQuad; ++k) {
      VTADL_UNROLL
      for (int j = 0; j < kPair; ++j) {
        parameter[k][j] = activated_parameter<Scalar>(
            p, row, first_k + k, first_d + j * step, floor);
      }
    }
  }

  __device__ void add(const T (&grad)[kQuad], const T (&x)[kPair]) {
    VTADL_UNROLL
    for (int k = 0; k < kQuad; ++k) {
      if (grad[k] == 0) continue;
      VTADL_UNROLL
      for (int j = 0; j < kPair; ++j) {
        const auto& [mean, scale] = parameter[k][j];
        const auto part =
            feature_grad(grad[k], standardize(x[j], mean, scale.inverse_std));
        sums[0][k][j] += part.standardized_mean;
        sums[1][k][j] += part.log_std;
      }
    }
  }
};

// Sums over a slab for features first_d, first_d + 1, …; all threads of the
// block have to take part.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void sum_slab(const GmmBackward& p, const SlabShape& slabs,
                         int64_t row, int64_t slab, int size, int64_t first_k,
                         int64_t first_d, int columns, const Floor<T>& floor,
                         const SlabSmem<T>& smem) {
  const int64_t own_d = first_d + threadIdx.x % columns;
  ThreadSums<Scalar> own(p, row, first_k, own_d, columns, floor);
  for (int s = threadIdx.x / columns; s < size;
       s += kSharedBlockThreads / columns) {
    const Scalar* features =
        static_cast<const Scalar*>(p.x) + smem.x_rows[s] * p.features;
    T x[kPair] = {}, grad[kQuad];
    VTADL_UNROLL
    for (int j = 0; j < kPair; ++j) {
      const int64_t d = own_d + j * columns;
      if (d < p.features) x[j] = static_cast<T>(features[d]);
    }
    load(smem.grads + s * kQuad, grad);
    own.add(grad, x);
  }
  VTADL_UNROLL
  for (int i = 0; i < 2 * kQuad * kPair; ++i) {
    const int which = i / kPair / kQuad, k = i / kPair % kQuad, j = i % kPair;
    const T sum =
        block_sum_of_groups(own.sums[which][k][j], columns, smem.sums);
    const int64_t d = own_d + j * columns;
    if (int(threadIdx.x) < columns && d < p.features &&
        first_k + k < p.components) {
      slab_sum<T>(p, slabs, row, slab, first_k + k, SlabSumKind(which), d) =
          sum;
    }
  }
}

// The kernel sums over slabs of samples. A block serves a slab and 4
// components, whose gradients with respect to log N_k it keeps; a thread has 2
// features, and threads beyond `columns` have other samples. The kernel reads
// these gradients once, and x once for every 4 components, 1/4 U from the
// cache; 5 operations per element of U. A thread has 128 registers at most: a
// quarter of the threads that a multiprocessor holds are resident.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kSharedBlockThreads, kSharedBlocksPerSm)
    slab_sums_kernel(GmmBackward p, SlabShape slabs, int columns,
                     Floor<T> floor) {
  const int64_t repeats = p.mu.rows.repeats;
  const int64_t quads = divide_up(p.components, kQuad);
  const SlabSmem<T> smem(int(slabs.max_size(repeats)));
  for (int64_t item = blockIdx.x; item < p.mu.rows.rows * slabs.count * quads;
       item += gridDim.x) {
    const int64_t first_k = item % quads * kQuad;
    const int64_t slab = item / quads % slabs.count;
    const int64_t row = item / quads / slabs.count;
    const int64_t begin = slabs.begin(slab, repeats);
    const int size = int(slabs.begin(slab + 1, repeats) - begin);
    __syncthreads();
    smem.load(p, row, begin, size, first_k);
    __syncthreads();
    for (int64_t d = 0; d < p.features; d += kPair * columns) {
      sum_slab<Scalar>(p, slabs, row, slab, size, first_k, d, columns, floor,
                       smem);
    }
  }
}

// The kernel writes the gradient of mu or scale, from one of the sums of the
// slabs. A group of `width` lanes per element always adds in the same order.
// The kernel reads the sums once, K·D elements for each slab. Half of the
// threads that a multiprocessor holds are resident.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void slab_total_kernel(GmmBackward p, SlabShape slabs,
                                  GmmParameter parameter, SlabSumKind which,
                                  int width, Scalar* grad, Floor<T> floor) {
  const int64_t components = p.components / parameter.components;
  const int64_t features = p.features / parameter.size;
  const int64_t addends = slabs.count * components * features;
  for_each_item(parameter.numel(), width, [&](int64_t element, bool in_use) {
    const int64_t owner = element / parameter.size;
    const int64_t row = owner / parameter.components;
    const int64_t first_k = owner % parameter.components;
    const int64_t first_d = element % parameter.size;
    const auto scale_of = [&](int64_t k, int64_t d) {
      return activated_parameter<Scalar>(p, row, k, d, floor).scale;
    };
    T total = 0;
    for (int64_t i = lane_of(width); in_use && i < addends; i += width) {
      const int64_t slab = i % slabs.count;
      const int64_t d = first_d + i / slabs.count % features;
      const int64_t k = first_k + i / slabs.count / features;
      const T sum = slab_sum<T>(p, slabs, row, slab, k, which, d);
      if (sum == 0) continue;
      total += which == SlabSumKind::kLogStd ? sum
                                             : sum * scale_of(k, d).inverse_std;
    }
    total = warp_sum(total, width);
    if (!in_use || lane_of(width) != 0) return;
    if (which == SlabSumKind::kLogStd) {
      total = chain(p.scale_param, total, scale_of(first_k, first_d));
    }
    grad[element] = static_cast<Scalar>(total);
  });
}

// ----------------------------------------------------------------- launchers

template <typename Scalar>
void shared_x_backward(const GmmBackward& p, void* stream) {
  using T = Accumulate<Scalar>;
  const int columns = shared_columns(p, kWarp);
  launch("gmm shared_x_backward_kernel", shared_x_backward_kernel<Scalar>,
         shared_x_shape(p, columns, sizeof(SharedXSmem<T>)), stream, p, columns,
         Floor<T>(p.min_std));
}

// The sums overwrite the gradients with respect to log N_k.
template <typename Scalar>
void slab_sums(const GmmBackward& p, const SlabShape& slabs,
               const SummedGrads& grads, void* stream) {
  using T = Accumulate<Scalar>;
  launch("gmm slab_sums_kernel", slab_sums_kernel<Scalar>,
         slab_sums_shape<T>(p, slabs), stream, p, slabs,
         shared_columns(p, kSharedBlockThreads), Floor<T>(p.min_std));
  const auto finish = [&](const GmmParameter& parameter, SlabSumKind which,
                          void* grad) {
    if (!grad) return;
    const GroupShape shape = slab_total_shape(p, slabs, parameter);
    launch("gmm slab_total_kernel", slab_total_kernel<Scalar>, shape.launch,
           stream, p, slabs, parameter, which, shape.width,
           static_cast<Scalar*>(grad), Floor<T>(p.min_std));
  };
  finish(p.mu, SlabSumKind::kStandardizedMean, grads.grad_mu);
  finish(p.scale, SlabSumKind::kLogStd, grads.grad_scale);
}

}  // namespace vtadl::gmm
