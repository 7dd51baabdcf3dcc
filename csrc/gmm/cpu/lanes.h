// Blocks of samples as vectors, gathered from rows of tensors and scattered
// back to them.
#pragma once

#include <algorithm>
#include <type_traits>

#include "common/row_map.h"
#include "common/simd_memory.h"
#include "gmm/cpu/tuning.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

template <typename T>
constexpr int kBlockSamples = kVectors * kLanes<T>;

// One number for each sample of a block.
template <typename T>
struct BlockValues {
  Vector<T> v[kVectors];

  VTADL_HOST_INLINE T& operator[](int lane) {
    return reinterpret_cast<T*>(v)[lane];
  }
};

// The samples of a block. The last one fills the lanes behind it, where its
// gradients count as 0.
template <typename T>
struct SampleBlock {
  int64_t sample[kBlockSamples<T>];
  int count;

  // The number of vectors, 1, 2 or 4, that hold the samples. What the others
  // hold does not matter.
  int vectors() const {
    return count <= kLanes<T> ? 1 : count <= 2 * kLanes<T> ? 2 : kVectors;
  }
};

// Calls body(vectors) with a constant, so that loops over vectors are unrolled.
template <typename Body>
VTADL_HOST_INLINE auto with_constant(int vectors, const Body& body) {
  static_assert(kVectors == 4);
  switch (vectors) {
    case 1:
      return body(std::integral_constant<int, 1>());
    case 2:
      return body(std::integral_constant<int, 2>());
    default:
      return body(std::integral_constant<int, kVectors>());
  }
}

// Where the row that each sample of a block reads begins.
template <typename T>
struct Offsets {
  int64_t of[kBlockSamples<T>];
  int vectors;  // as many are read

  Offsets() = default;
  VTADL_HOST_INLINE Offsets(const SampleBlock<T>& block, const RowMap& rows,
                            int64_t row_size)
      : vectors(block.vectors()) {
    for (int lane = 0; lane < kBlockSamples<T>; ++lane) {
      of[lane] = rows.row(block.sample[lane]) * row_size;
    }
  }
};

// Elements [first, first + count) of each sample's row, as `to[count]`.
template <typename T, typename Scalar>
VTADL_HOST_INLINE void gather(const void* base, const Offsets<T>& rows,
                              int64_t first, int64_t count,
                              BlockValues<T>* to) {
  const Scalar* from = static_cast<const Scalar*>(base) + first;
  if (count < kFewElements) {
    for (int64_t i = 0; i < count; ++i) {
      for (int lane = 0; lane < rows.vectors * kLanes<T>; ++lane) {
        to[i][lane] = static_cast<T>(from[rows.of[lane] + i]);
      }
    }
    return;
  }
  for_each_vector<T>(count, [&](int64_t i, int some) {
    for (int v = 0; v < rows.vectors; ++v) {
      Vector<T> square[kLanes<T>];
      const int64_t* offsets = rows.of + v * kLanes<T>;
      for (int j = 0; j < kLanes<T>; ++j) {
        square[j] = load<T>(from + offsets[j] + i, some);
      }
      transpose<T>(square);
      for (int j = 0; j < some; ++j) to[i + j].v[v] = square[j];
    }
  });
}

// Writes elements [first, first + count) of each sample's row, which has `size`
// elements.
template <typename T, typename Scalar>
VTADL_HOST_INLINE void scatter(BlockValues<T>* from, int64_t count,
                               const SampleBlock<T>& block, void* base,
                               int64_t size, int64_t first) {
  Scalar* to = static_cast<Scalar*>(base) + first;
  if (count < kFewElements) {
    for (int lane = 0; lane < block.count; ++lane) {
      for (int64_t i = 0; i < count; ++i) {
        to[block.sample[lane] * size + i] = static_cast<Scalar>(from[i][lane]);
      }
    }
    return;
  }
  for_each_vector<T>(count, [&](int64_t i, int some) {
    for (int v = 0; v * kLanes<T> < block.count; ++v) {
      Vector<T> square[kLanes<T>] = {};
      for (int j = 0; j < some; ++j) square[j] = from[i + j].v[v];
      transpose<T>(square);
      const int lanes = std::min(block.count - v * kLanes<T>, kLanes<T>);
      for (int j = 0; j < lanes; ++j) {
        const int64_t sample = block.sample[v * kLanes<T> + j];
        store<T>(to + sample * size + i, square[j], some);
      }
    }
  });
}

template <typename T>
SampleBlock<T> block_of_samples(int64_t first, int64_t samples) {
  SampleBlock<T> block;
  block.count =
      static_cast<int>(std::min<int64_t>(samples - first, kBlockSamples<T>));
  for (int lane = 0; lane < kBlockSamples<T>; ++lane) {
    block.sample[lane] = first + std::min(lane, block.count - 1);
  }
  return block;
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
