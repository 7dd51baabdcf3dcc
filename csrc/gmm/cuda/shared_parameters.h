// The gradients of a mixture, standard deviations for each feature, that many
// samples share.
#pragma once

#include "gmm/cuda/shared.h"

namespace vtadl::gmm {

// The samples of a row in `count` parts. What is summed over one part, 2 D
// numbers for each component, replaces the weights of its first samples, when
// nobody needs these any more: a part has at least 2 D samples.
struct Slabs {
  int64_t count;

  VTADL_INLINE int64_t begin(int64_t slab, int64_t repeats) const {
    return repeats / count * slab + min(slab, repeats % count);
  }
  VTADL_INLINE int64_t max_size(int64_t repeats) const {
    return (repeats + count - 1) / count;
  }

 private:
  VTADL_INLINE static int64_t min(int64_t a, int64_t b) {
    return a < b ? a : b;
  }
};

// Where slabs keep their sums: of w·z for feature d, then of w·(z² - 1).
template <typename T>
__device__ T& slab_sum(const GmmBackward& p, const Slabs& slabs, int64_t row,
                       int64_t slab, int64_t k, int64_t which, int64_t d) {
  const RowMap& rows = p.mu.rows;
  const int64_t n = rows.sample(
      row, slabs.begin(slab, rows.repeats) + which * p.features + d);
  return static_cast<T*>(p.grad_log_normal)[n * p.components + k];
}

// The weights of 4 components in a slab, and which rows of x its samples read.
template <typename T>
struct SlabRoom {
  T* sums;  // a number for each thread
  T* weights;
  int64_t* x_rows;

  __device__ explicit SlabRoom(int max_size)
      : sums(shared_memory<T>()),
        weights(sums + kSharedBlock),
        x_rows(reinterpret_cast<int64_t*>(weights + kQuad * max_size)) {}

  __device__ void load(const GmmBackward& p, int64_t row, int64_t begin,
                       int size, int64_t first_k) const {
    for (int s = threadIdx.x; s < size; s += kSharedBlock) {
      const int64_t n = p.mu.rows.sample(row, begin + s);
      x_rows[s] = p.x_rows.row(n);
      for (int k = 0; k < kQuad; ++k) {
        weights[s * kQuad + k] =
            first_k + k < p.components
                ? component_weights<T>(p)[n * p.components + first_k + k]
                : T(0);
      }
    }
  }
};

// What a thread computes: 2 features, `step` apart, of 4 components.
template <typename Scalar, typename T = Accumulate<Scalar>>
struct SlabSums {
  Activated<T> parameter[kQuad][kPair];
  T sums[2][kQuad][kPair] = {};

  __device__ SlabSums(const GmmBackward& p, int64_t row, int64_t first_k,
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

  __device__ void add(const T (&weight)[kQuad], const T (&x)[kPair]) {
    VTADL_UNROLL
    for (int k = 0; k < kQuad; ++k) {
      if (weight[k] == 0) continue;
      VTADL_UNROLL
      for (int j = 0; j < kPair; ++j) {
        const T z =
            (x[j] - parameter[k][j].mean) * parameter[k][j].scale.inverse_std;
        sums[0][k][j] += weight[k] * z;
        sums[1][k][j] += weight[k] * (z * z - 1);
      }
    }
  }
};

// Sums over a slab for features first_d, first_d + 1, …; all threads together.
template <typename Scalar, typename T = Accumulate<Scalar>>
__device__ void sum_slab(const GmmBackward& p, const Slabs& slabs, int64_t row,
                         int64_t slab, int size, int64_t first_k,
                         int64_t first_d, int columns, const Floor<T>& floor,
                         const SlabRoom<T>& room) {
  const int64_t own_d = first_d + threadIdx.x % columns;
  SlabSums<Scalar> own(p, row, first_k, own_d, columns, floor);
  for (int s = threadIdx.x / columns; s < size; s += kSharedBlock / columns) {
    const Scalar* features =
        static_cast<const Scalar*>(p.x) + room.x_rows[s] * p.features;
    T x[kPair] = {}, weight[kQuad];
    VTADL_UNROLL
    for (int j = 0; j < kPair; ++j) {
      const int64_t d = own_d + j * columns;
      if (d < p.features) x[j] = static_cast<T>(features[d]);
    }
    load(room.weights + s * kQuad, weight);
    own.add(weight, x);
  }
  VTADL_UNROLL
  for (int i = 0; i < 2 * kQuad * kPair; ++i) {
    const int which = i / kPair / kQuad, k = i / kPair % kQuad, j = i % kPair;
    const T sum =
        block_sum_of_groups(own.sums[which][k][j], columns, room.sums);
    const int64_t d = own_d + j * columns;
    if (int(threadIdx.x) < columns && d < p.features &&
        first_k + k < p.components) {
      slab_sum<T>(p, slabs, row, slab, first_k + k, which, d) = sum;
    }
  }
}

// Sums of w·z and of w·(z² - 1) over a slab of samples. A block per slab and 4
// components, whose weights it keeps; a thread has 2 features, and threads
// beyond `columns` other samples. Reads the weights once and x once for every 4
// components, 1/4 U from the cache; 5 operations per element of U. 128
// registers at most: a quarter of the threads that a multiprocessor holds.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void __launch_bounds__(kSharedBlock, 4)
    shared_sums_kernel(GmmBackward p, Slabs slabs, int columns,
                       Floor<T> floor) {
  const int64_t repeats = p.mu.rows.repeats;
  const int64_t quads = (p.components + kQuad - 1) / kQuad;
  const SlabRoom<T> room(int(slabs.max_size(repeats)));
  for (int64_t item = blockIdx.x; item < p.mu.rows.rows * slabs.count * quads;
       item += gridDim.x) {
    const int64_t first_k = item % quads * kQuad;
    const int64_t slab = item / quads % slabs.count;
    const int64_t row = item / quads / slabs.count;
    const int64_t begin = slabs.begin(slab, repeats);
    const int size = int(slabs.begin(slab + 1, repeats) - begin);
    __syncthreads();
    room.load(p, row, begin, size, first_k);
    __syncthreads();
    for (int64_t d = 0; d < p.features; d += kPair * columns) {
      sum_slab<Scalar>(p, slabs, row, slab, size, first_k, d, columns, floor,
                       room);
    }
  }
}

// Gradient of mu (which = 0) or scale (which = 1), from the sums of the slabs.
// A group of `width` lanes per element, which all add in the same order. Reads
// the sums once, K·D elements for each slab. Half of the threads that a
// multiprocessor holds.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void shared_parameter_kernel(GmmBackward p, Slabs slabs,
                                        GmmParameter parameter, int which,
                                        int width, Scalar* grad,
                                        Floor<T> floor) {
  const int64_t components = p.components / parameter.components;
  const int64_t features = p.features / parameter.size;
  const GroupStride group(width);
  const int64_t warp_first = group.warp_first(width);
  for (int64_t offset = 0; warp_first + offset < parameter.numel();
       offset += group.step) {
    const int64_t element = group.first + offset;
    const int64_t owner = element / parameter.size;
    const int64_t row = owner / parameter.components;
    T total = 0;
    for (int64_t i = lane_of(width);
         element < parameter.numel() && i < slabs.count * components * features;
         i += width) {
      const int64_t slab = i % slabs.count;
      const int64_t d = element % parameter.size + i / slabs.count % features;
      const int64_t k =
          owner % parameter.components + i / slabs.count / features;
      const T sum = slab_sum<T>(p, slabs, row, slab, k, which, d);
      if (sum == 0) continue;
      const auto scale = activated_parameter<Scalar>(p, row, k, d, floor).scale;
      total += which == 0 ? sum * scale.inverse_std : sum;
    }
    total = warp_sum(total, width);
    if (element < parameter.numel() && lane_of(width) == 0) {
      if (which == 1) {
        const int64_t k = owner % parameter.components;
        const int64_t d = element % parameter.size;
        const auto scale =
            activated_parameter<Scalar>(p, row, k, d, floor).scale;
        total = chain(p.scale_param, total, scale);
      }
      grad[element] = static_cast<Scalar>(total);
    }
  }
}

// ----------------------------------------------------------------- launchers

template <typename T>
std::size_t slab_bytes(int64_t samples) {
  return sizeof(T) * (kSharedBlock + kQuad * samples) +
         sizeof(int64_t) * samples;
}

// As many slabs as fill the device, of a size that shared memory holds. None
// where no row has enough samples.
template <typename T>
Slabs choose_slabs(const GmmProblem& p) {
  constexpr int64_t kMinSize = 256, kMaxSize = 1024;
  const int64_t repeats = p.mu.rows.repeats;
  const int64_t min_size = std::max(2 * p.features, kMinSize);
  const int64_t max_size = std::max(2 * min_size, kMaxSize);
  if (!is_one_mixture_for_many(p) || repeats < 2 * p.features ||
      slab_bytes<T>(max_size) > max_shared_bytes())
    return {0};
  const int64_t wanted_blocks = 8 * multiprocessors();
  const int64_t wanted =
      divide_up(wanted_blocks, p.mu.rows.rows * divide_up(p.components, kQuad));
  return {std::max<int64_t>(
      divide_up(repeats, max_size),
      std::clamp<int64_t>(wanted, 1,
                          std::max<int64_t>(repeats / min_size, 1)))};
}

// The weights are lost.
template <typename Scalar>
void shared_parameter_backward(const GmmBackward& p, const Slabs& slabs,
                               void* stream) {
  using T = Accumulate<Scalar>;
  const int columns = power_of_two(divide_up(p.features, kPair), kSharedBlock);
  launch(
      "gmm shared_sums_kernel", shared_sums_kernel<Scalar>,
      {grid_size(p.mu.rows.rows * slabs.count * divide_up(p.components, kQuad)),
       kSharedBlock, slab_bytes<T>(slabs.max_size(p.mu.rows.repeats))},
      stream, p, slabs, columns, Floor<T>(p.min_std));
  const auto finish = [&](const GmmParameter& parameter, int which,
                          void* grad) {
    if (!grad) return;
    const int64_t addends = slabs.count *
                            (p.components / parameter.components) *
                            (p.features / parameter.size);
    const int width = power_of_two(addends, kWarp);
    launch("gmm shared_parameter_kernel", shared_parameter_kernel<Scalar>,
           {grid_size(divide_up(parameter.numel() * width, kBlock)), kBlock},
           stream, p, slabs, parameter, which, width,
           static_cast<Scalar*>(grad), Floor<T>(p.min_std));
  };
  finish(p.mu, 0, p.grad_mu);
  finish(p.scale, 1, p.grad_scale);
}

}  // namespace vtadl::gmm
