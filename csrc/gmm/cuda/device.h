// What the mixture kernels for the GPU have in common.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <utility>

#include "common/integers.h"
#include "common/launch.h"
#include "common/reduce.h"
#include "gmm/gmm.h"
#include "gmm/math.h"

namespace vtadl::gmm {

using std::int64_t;

constexpr int kBlock = 256;

// Blocks that the registers of a multiprocessor have to suffice for: half of
// its threads; 3/8 where a thread works on 8 elements, 1/4 with doubles.
template <typename Scalar>
constexpr int kResidentBlocks = sizeof(Scalar) == 4   ? 4
                                : sizeof(Scalar) == 8 ? 2
                                                      : 3;

// ------------------------------------------------------------ for the launch

inline unsigned grid_size(int64_t blocks) {
  return static_cast<unsigned>(std::clamp<int64_t>(blocks, 1, kMaxBlocks));
}

// The smallest power of two that is at least `wanted`, but at most `limit`,
// which is one too.
inline int power_of_two(int64_t wanted, int limit) {
  int result = 1;
  while (result < wanted && result < limit) result *= 2;
  return result;
}

// Each component of each sample has parameters of its own.
inline bool is_per_component(const GmmProblem& p,
                             const GmmParameter& parameter) {
  return parameter.rows.repeats == 1 && parameter.components == p.components;
}

// And each of its features: the gradient is no sum.
inline bool is_private(const GmmProblem& p, const GmmParameter& parameter) {
  return is_per_component(p, parameter) && parameter.size >= p.features;
}

// ---------------------------------------------------------- sums and indices

// Of the calling thread in its group of `width` lanes, a power of two.
__device__ inline int lane_of(int width) {
  return (threadIdx.y * blockDim.x + threadIdx.x) & (width - 1);
}

// The first item of this group of `width` threads, of which blocks are made,
// and the stride to its next. Divisions of 64 bits take many instructions.
struct GroupStride {
  int64_t first, step;

  __device__ explicit GroupStride(unsigned width)
      : first(int64_t(blockIdx.x) * (blockDim.x / width) + threadIdx.x / width),
        step(int64_t(gridDim.x) * (blockDim.x / width)) {}

  // The first item of the warp's first group: lanes that loop until this one
  // is done make the same number of rounds, so that all take part in shuffles.
  __device__ int64_t warp_first(unsigned width) const {
    return first - threadIdx.x % kWarp / width;
  }
};

// ---------------------------------------------------------- loads and stores

// Elements that 16 bytes hold.
template <typename Scalar>
constexpr int kPackSize = 16 / int(sizeof(Scalar));

// Unsigned integers of so many bytes, the most that one instruction moves.
template <int kBytes>
struct BitsOf;
template <>
struct BitsOf<2> {
  using type = unsigned short;
};
template <>
struct BitsOf<4> {
  using type = unsigned;
};
template <>
struct BitsOf<8> {
  using type = uint2;
};
template <>
struct BitsOf<16> {
  using type = uint4;
};

// kCount elements in the largest equal pieces, to which they must be aligned.
template <int kCount, typename Scalar>
struct Pieces {
  static constexpr int kBytes = kCount * int(sizeof(Scalar));
  static constexpr int kPieceBytes =
      (kBytes & -kBytes) < 16 ? kBytes & -kBytes : 16;
  static constexpr int kSize = kPieceBytes / int(sizeof(Scalar));
  using Bits = typename BitsOf<kPieceBytes>::type;
};

template <int kCount, typename T, typename Scalar>
__device__ void load(const Scalar* from, T (&values)[kCount]) {
  using P = Pieces<kCount, Scalar>;
  VTADL_UNROLL
  for (int i = 0; i < kCount; i += P::kSize) {
    const auto bits = *reinterpret_cast<const typename P::Bits*>(from + i);
    Scalar piece[P::kSize];
    std::memcpy(static_cast<void*>(piece), &bits, sizeof bits);
    VTADL_UNROLL
    for (int j = 0; j < P::kSize; ++j) values[i + j] = static_cast<T>(piece[j]);
  }
}

// Nobody on the device will read soon what is streamed: it is the first to
// leave the cache.
enum class Store { kPlain, kStreamed };

template <Store kStore = Store::kPlain, int kCount, typename T, typename Scalar>
__device__ void store(Scalar* to, const T (&values)[kCount]) {
  using P = Pieces<kCount, Scalar>;
  VTADL_UNROLL
  for (int i = 0; i < kCount; i += P::kSize) {
    Scalar piece[P::kSize];
    VTADL_UNROLL
    for (int j = 0; j < P::kSize; ++j) {
      piece[j] = static_cast<Scalar>(values[i + j]);
    }
    typename P::Bits bits;
    std::memcpy(&bits, static_cast<const void*>(piece), sizeof bits);
    auto* const piece_of = reinterpret_cast<typename P::Bits*>(to + i);
    if constexpr (kStore == Store::kStreamed) {
      __stcs(piece_of, bits);
    } else {
      *piece_of = bits;
    }
  }
}

inline bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0) return false;
  }
  return true;
}

// ------------------------------------------------------------------ operands

template <typename Scalar>
__device__ const Scalar* sample_features(const GmmProblem& p, int64_t sample) {
  return static_cast<const Scalar*>(p.x) + p.x_rows.row(sample) * p.features;
}

template <typename Scalar>
__device__ const Scalar* sample_logits(const GmmProblem& p, int64_t sample) {
  return static_cast<const Scalar*>(p.logits) +
         p.logits_rows.row(sample) * p.components;
}

// Of one component of a row, where `parameter` is mu or scale.
template <typename Scalar>
struct ComponentParameter {
  const Scalar* data;
  bool is_one;  // the same for all features

  __device__ ComponentParameter(const GmmParameter& parameter, int64_t row,
                                int64_t k)
      : data(static_cast<const Scalar*>(parameter.data) +
             parameter.offset(row, k)),
        is_one(parameter.size == 1) {}

  // Of features d, d + 1, …
  template <int kCount, typename T>
  __device__ void load(int64_t d, T (&values)[kCount]) const {
    if (is_one) {
      const T value = static_cast<T>(*data);
      VTADL_UNROLL
      for (int j = 0; j < kCount; ++j) values[j] = value;
    } else {
      gmm::load<kCount>(data + d, values);
    }
  }
};

// The gradient with respect to log N_k of component k of sample n at
// [n * K + k].
template <typename T>
__device__ const T* component_weights(const GmmBackward& p) {
  const bool given = p.mixture == Mixture::kNone && p.grad != nullptr;
  return static_cast<const T*>(given ? p.grad : p.grad_log_normal);
}

template <int kCount, typename T>
__device__ void activate(ScaleParam param, const T (&raw)[kCount],
                         const Floor<T>& floor,
                         ActivatedScale<T> (&scale)[kCount]) {
  with_scale_param(param, [&](auto known) {
    VTADL_UNROLL
    for (int j = 0; j < kCount; ++j) {
      scale[j] = activate<decltype(known)::value>(raw[j], floor);
    }
  });
}

}  // namespace vtadl::gmm
