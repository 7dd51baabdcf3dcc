// The contract between the SSIM operators and their kernels.
#pragma once

#include <cstdint>

#include "common/dispatch.h"
#include "common/integers.h"

namespace vtadl {

// Elements from one index to the next along each dimension of [batch, channels,
// height, width]; 0 along a dimension whose indices share an element.
struct ImageStrides {
  std::int64_t batch, channel, row, column;
};

// The weights of a window along one axis: symmetric, with sum 1.
struct SsimTaps {
  static constexpr int kMost = 31;

  int count;  // odd
  double weights[kMost];
};

// What is computed of a window: the index, which is a product, or one of its
// two factors.
enum class SsimComponent { kIndex, kContrastStructure, kLuminance };

// The comparison of pairs of images, one channel after the other. `Accumulate`
// is float32, or float64 where dtype is float64.
struct SsimProblem {
  DType dtype;
  bool bytes;  // whether the images hold bytes; dtype is float32 then
  std::int64_t batch, channels, height, width;
  // Rows above and below the images, and columns beside them, of value 0.
  std::int64_t border_rows, border_columns;
  SsimTaps vertical, horizontal;  // down a column of the window, along a row
  double data_range, k1, k2;
  SsimComponent component;
  const void* x;
  const void* y;
  const bool* mask;  // valid pixels, none of them in the border; null: all are
  ImageStrides x_strides, y_strides, mask_strides;

  VTADL_INLINE std::int64_t planes() const { return batch * channels; }
  VTADL_INLINE std::int64_t padded_height() const {
    return height + 2 * border_rows;
  }
  VTADL_INLINE std::int64_t padded_width() const {
    return width + 2 * border_columns;
  }

  // The rows and columns of a window besides its first.
  VTADL_INLINE int halo_rows() const { return vertical.count - 1; }
  VTADL_INLINE int halo_columns() const { return horizontal.count - 1; }

  // The map has a value for each window inside an image and its border.
  VTADL_INLINE std::int64_t map_height() const {
    return padded_height() - halo_rows();
  }
  VTADL_INLINE std::int64_t map_width() const {
    return padded_width() - halo_columns();
  }

  // The offset of the first element of a plane: one channel of one image.
  VTADL_INLINE std::int64_t plane_offset(const ImageStrides& strides,
                                         std::int64_t plane) const {
    return plane / channels * strides.batch +
           plane % channels * strides.channel;
  }
};

// The sums over a plane.
struct SsimSums {
  static constexpr int kIndex = 0;           // the values of the map
  static constexpr int kWindows = 1;         // the windows with a valid pixel
  static constexpr int kSquaredErrors = 2;   // (x - y)² over the pixels
  static constexpr int kAbsoluteErrors = 3;  // |x - y|
  static constexpr int kCount = 4;
};

// The forward pass writes the map, or sums over the parts of each plane. A
// plane has as many parts as the device's function below says. Windows without
// a valid pixel are 0 in the map, and no sum counts them.
struct SsimForward : SsimProblem {
  void* map;    // [batch, channels, map_height, map_width], Accumulate; or null
  void* sums;   // [planes, parts, SsimSums::kCount], Accumulate; or null
  bool errors;  // whether the sums of errors are wanted; else they are 0
};

// The backward pass writes the gradients of the images, which hold no bytes.
struct SsimBackward : SsimProblem {
  const void* grad;  // Accumulate: of the map, or of the sums of each plane
  bool grad_of_map;  // else grad is [planes, SsimSums::kCount]
  double constant_grad[SsimSums::kCount];  // of the sums, where grad is null
  bool errors;   // whether the sums of errors have gradients
  void* grad_x;  // of the images' dtype; null where not asked for
  void* grad_y;
  ImageStrides grad_x_strides, grad_y_strides;
};

// Both passes, with constant gradients of the sums.
struct SsimForwardBackward {
  SsimForward forward;
  SsimBackward backward;
};

// The sums over the parts of all planes, and Σ weights · sums.
struct SsimTotal {
  DType dtype;           // of the images
  std::int64_t parts;    // of all planes
  const void* of_parts;  // [parts, SsimSums::kCount], Accumulate
  double weights[SsimSums::kCount];
  void* total;  // one number, Accumulate
  void* sums;   // [SsimSums::kCount], Accumulate
};

struct SsimCpuKernels {
  std::int64_t (*parts)(const SsimProblem&);
  void (*forward)(const SsimForward&);
  void (*backward)(const SsimBackward&);
  void (*forward_backward)(const SsimForwardBackward&);
  void (*total)(const SsimTotal&);
};

std::int64_t ssim_parts_cuda(const SsimProblem&);
void ssim_forward_cuda(const SsimForward&, void* stream);
void ssim_backward_cuda(const SsimBackward&, void* stream);
void ssim_forward_backward_cuda(const SsimForwardBackward&, void* stream);
void ssim_total_cuda(const SsimTotal&, void* stream);

}  // namespace vtadl
