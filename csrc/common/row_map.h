// Broadcasting over leading dimensions without copies.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace vtadl {

// The map from samples to the rows of a tensor that they read. Samples are
// numbered over the broadcast leading dimensions. `size` and `stride` hold
// these from the innermost outwards; the stride is 0 along a dimension where
// the tensor is broadcast.
struct RowMap {
  static constexpr int kMaxDims = 8;

  int dims = 0;
  std::int64_t size[kMaxDims] = {};
  std::int64_t stride[kMaxDims] = {};
  std::int64_t rows = 1;
  std::int64_t repeats = 1;  // samples that read the same row

  // Adds an outer dimension, and merges it with the one before if both are
  // broadcast or both are not. Returns false if kMaxDims are not enough.
  VTADL_HOST_INLINE bool add_outer(std::int64_t dim_size, bool broadcast) {
    if (dim_size == 1) return true;
    if (dims > 0 && (stride[dims - 1] == 0) == broadcast) {
      size[dims - 1] *= dim_size;
    } else {
      if (dims == kMaxDims) return false;
      size[dims] = dim_size;
      stride[dims++] = broadcast ? 0 : rows;
    }
    (broadcast ? repeats : rows) *= dim_size;
    return true;
  }

  VTADL_INLINE std::int64_t row(std::int64_t sample) const {
    if (repeats == 1) return sample;
    std::int64_t result = 0;
    for (int i = 0; i < dims; ++i) {
      result += sample % size[i] * stride[i];
      sample /= size[i];
    }
    return result;
  }

  // The sample that reads `row` for the `repeat`-th time.
  VTADL_INLINE std::int64_t sample(std::int64_t row,
                                   std::int64_t repeat) const {
    if (repeats == 1) return row;
    std::int64_t result = 0, sample_stride = 1;
    for (int i = 0; i < dims; ++i) {
      const std::int64_t digits = stride[i] == 0 ? repeat : row;
      result += digits % size[i] * sample_stride;
      (stride[i] == 0 ? repeat : row) = digits / size[i];
      sample_stride *= size[i];
    }
    return result;
  }

  // The samples that read one row come in runs of `length`, whose members are
  // `step` samples apart.
  struct Run {
    std::int64_t length, step;
  };
  VTADL_HOST_INLINE Run repeat_run() const {
    std::int64_t step = 1;
    for (int i = 0; i < dims; ++i) {
      if (stride[i] == 0) return {size[i], step};
      step *= size[i];
    }
    return {1, 0};
  }

  VTADL_HOST_INLINE bool operator==(const RowMap& other) const {
    if (dims != other.dims) return false;
    for (int i = 0; i < dims; ++i) {
      if (size[i] != other.size[i] || stride[i] != other.stride[i]) {
        return false;
      }
    }
    return true;
  }
};

}  // namespace vtadl
