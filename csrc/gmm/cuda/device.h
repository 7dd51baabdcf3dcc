// Indices, loads and stores, and operands, which the mixture kernels for the
// GPU have in common. Their comments count the elements that a kernel moves: U
// stands for N·K·D, as many as mu or scale has where each sample has its own.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/integers.h"
#include "common/launch.h"
#include "common/reduce.h"
#include "gmm/cuda/plan.h"
#include "gmm/gmm.h"
#include "gmm/math.h"

namespace vtadl::gmm {

using std::int64_t;

// ------------------------------------------------------------------- threads

// The thread's number in a block of any shape.
__device__ inline int thread_of_block() {
  return threadIdx.y * blockDim.x + threadIdx.x;
}

// The thread's number in its group of `width` lanes, a power of two.
__device__ inline int lane_of(int width) {
  return thread_of_block() & (width - 1);
}

// Calls body(item, in_use) for the items of this thread's group of `width`
// lanes. Lanes of a warp loop until its first group is done, with items that
// are not in use beyond the last: all of them take part in shuffles. Additions
// replace divisions of 64 bits, which take many instructions.
template <typename Body>
__device__ void for_each_item(int64_t items, unsigned width, const Body& body) {
  const unsigned groups = blockDim.x / width;
  const int64_t first = int64_t(blockIdx.x) * groups + threadIdx.x / width;
  const int64_t warp_first = first - threadIdx.x % kWarp / width;
  for (int64_t offset = 0; warp_first + offset < items;
       offset += int64_t(gridDim.x) * groups) {
    body(first + offset, first + offset < items);
  }
}

// ---------------------------------------------------------- loads and stores

// The unsigned integer of so many bytes that one instruction moves.
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

// How kCount elements are moved: in the largest equal pieces, to which they
// must be aligned.
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

// What is streamed is the first to leave the cache, because nobody on the
// device will read it soon.
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

// Calls body with the number of elements in a pack, as a constant: 1 for
// doubles, whose kernels take nvcc longest.
template <typename Scalar, typename Body>
void dispatch_packs(bool packed, const Body& body) {
  if constexpr (sizeof(Scalar) < sizeof(double)) {
    if (packed) return body(std::integral_constant<int, kPackSize<Scalar>>());
  }
  body(std::integral_constant<int, 1>());
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

// The elements of mu or scale that belong to component k of a row.
template <typename Scalar>
struct ComponentParameter {
  const Scalar* data;
  bool is_one;  // the same for all features

  __device__ ComponentParameter(const GmmParameter& parameter, int64_t row,
                                int64_t k)
      : data(static_cast<const Scalar*>(parameter.data) +
             parameter.offset(row, k)),
        is_one(parameter.size == 1) {}

  // The elements of features d, d + 1, …
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

// The gradients with respect to log N_k: that of component k of sample n is at
// [n * K + k].
template <typename T>
__device__ const T* log_normal_grads(const GmmBackward& p) {
  const bool given = p.mixture == Mixture::kNone && p.grad != nullptr;
  return static_cast<const T*>(given ? p.grad : p.grad_log_normal);
}

// The gradient with respect to log_prob of a sample.
template <typename T>
__device__ T log_prob_grad(const GmmBackward& p, int64_t n) {
  return p.grad ? static_cast<const T*>(p.grad)[n]
                : static_cast<T>(p.constant_grad);
}

// ----------------------------------------------------------------- arithmetic

// The sums over features from which log N_k follows.
template <typename T>
struct LogNormalSums {
  T log_det = 0, distance = 0;

  // Adds features whose scale is raw.
  template <ScaleParam kParam, int kCount>
  __device__ void add(const T (&x)[kCount], const T (&mean)[kCount],
                      const T (&raw)[kCount], const Floor<T>& floor) {
    VTADL_UNROLL
    for (int j = 0; j < kCount; ++j) {
      const auto scale = activate<kParam>(raw[j], floor);
      const T z = standardize(x[j], mean[j], scale.inverse_std);
      distance += z * z;
      log_det += scale.log_std;
    }
  }

  // log N_k from the sums of a group of `width` lanes; all lanes of the warp
  // have to take part.
  __device__ T log_normal(int64_t features, int width) const {
    return gmm::log_normal(features, warp_sum(log_det, width),
                           warp_sum(distance, width));
  }
};

}  // namespace vtadl::gmm
