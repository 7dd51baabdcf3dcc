// The pixels of a tile and of the windows that begin in it: their terms, whose
// weighted means are the statistics of the windows.
#pragma once

#include <algorithm>
#include <cmath>

#include "common/integers.h"
#include "common/simd_memory.h"
#include "ssim/cpu/tuning.h"
#include "ssim/math.h"
#include "ssim/tiling.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The most rows and columns that the windows of a tile touch.
constexpr int64_t kMaxHalo = SsimTaps::kMost - 1;
constexpr int64_t kReadHeight = kTileHeight + kMaxHalo;
constexpr int64_t kReadWidth = kTileWidth + kMaxHalo + 2;  // whole vectors

// One plane of images or masks in the coordinates of a tile: (0, 0) is the
// tile's first pixel, and the image lies between the first row and column and
// the end.
template <typename Scalar>
struct Plane {
  int64_t first_row, first_column, end_row, end_column;

  VTADL_HOST_INLINE Plane(const SsimProblem& p, const void* images,
                          const ImageStrides& strides, const ssim::Tile& at)
      : first_row(p.border_rows - at.top),
        first_column(p.border_columns - at.left),
        end_row(first_row + p.height),
        end_column(first_column + p.width),
        first_(static_cast<const Scalar*>(images) +
               p.plane_offset(strides, at.plane)),
        strides_(strides) {}

  const Scalar* pixel(int64_t i, int64_t j) const {
    return first_ + (i - first_row) * strides_.row +
           (j - first_column) * strides_.column;
  }

  // The tile's first column, or the one of the image that is nearest to it.
  int64_t nearest_column() const {
    return std::clamp<int64_t>(0, first_column, end_column - 1);
  }

  // A row from which vectors are read; behind `count` they are 0.
  struct Row {
    const Scalar* from;
    int64_t count;

    template <typename T>
    VTADL_HOST_INLINE Vector<T> at(int64_t j) const {
      if (j >= count) return Vector<T>{};
      return load<T>(from + j,
                     static_cast<int>(std::min<int64_t>(count - j, kLanes<T>)));
    }
  };

  // Row i: in place, or copied to `scratch` if zeros come first or pixels lie
  // apart.
  VTADL_HOST_INLINE Row row(int64_t i, int64_t columns, Scalar* scratch) const {
    if (i < first_row || i >= end_row) return {nullptr, 0};
    const int64_t begin = std::clamp<int64_t>(first_column, 0, columns);
    const int64_t end = std::clamp<int64_t>(end_column, begin, columns);
    if (begin == 0 && strides_.column == 1) return {pixel(i, 0), end};
    std::fill_n(scratch, begin, Scalar(0.0f));
    for (int64_t j = begin; j < end; ++j) scratch[j] = *pixel(i, j);
    return {scratch, end};
  }

  // Row i of a mask, as 1 for valid pixels and 0 for others.
  template <typename T>
  VTADL_HOST_INLINE void weights(int64_t i, int64_t columns, T* to) const {
    for (int64_t j = 0; j < columns; ++j) {
      const bool inside =
          i >= first_row && i < end_row && j >= first_column && j < end_column;
      to[j] = inside && *pixel(i, j) ? T(1) : T(0);
    }
  }

 private:
  const Scalar* first_;
  ImageStrides strides_;
};

// Under a mask there is a fifth term, 1 for valid pixels, whose weighted sum is
// the weight of the window.
constexpr int kWeight = ssim::kStatistics;

template <typename Scalar, bool kMasked>
class TilePixels {
 public:
  using T = Accumulate<Scalar>;
  static constexpr int kTerms = ssim::kStatistics + (kMasked ? 1 : 0);

  // Reads the tile. Pixels outside of the image are 0, and masked.
  void read(const SsimProblem& p, const ssim::Tile& at) {
    const Plane<Scalar> x(p, p.x, p.x_strides, at);
    const Plane<Scalar> y(p, p.y, p.y_strides, at);
    const Plane<bool> mask(p, p.mask, p.mask_strides, at);
    const T pivot_x = pivot(x, mask, p);
    const T pivot_y = pivot(y, mask, p);
    units_ = {static_cast<T>(1 / p.data_range), pivot_x, pivot_x - pivot_y};
    for (int64_t i = 0; i < kTileHeight + p.halo_rows(); ++i) {
      read_row(i, columns_read(p), x, y, mask);
    }
  }

  // Reads x - y of the tile's own pixels, 0 outside of the image.
  void read_differences(const SsimProblem& p, const ssim::Tile& at) {
    const Plane<Scalar> x(p, p.x, p.x_strides, at);
    const Plane<Scalar> y(p, p.y, p.y_strides, at);
    for (int64_t i = 0; i < kTileHeight; ++i) {
      Scalar x_scratch[kReadWidth], y_scratch[kReadWidth];
      const auto x_row = x.row(i, kTileWidth, x_scratch);
      const auto y_row = y.row(i, kTileWidth, y_scratch);
      for (int64_t j = 0; j < kTileWidth; j += kLanes<T>) {
        store<T>(differences_[i] + j,
                 x_row.template at<T>(j) - y_row.template at<T>(j));
      }
    }
  }

  // Asks for the pixels of a tile ahead of time, because its rows lie too far
  // apart for the processor to foresee them. The first rows were read with the
  // tile above. (GCC drops calls of functions that do no more than prefetch, so
  // this one is inlined.)
  VTADL_HOST_INLINE static void prefetch(const SsimProblem& p,
                                         const ssim::Tile& at) {
    const Plane<Scalar> x(p, p.x, p.x_strides, at);
    const Plane<Scalar> y(p, p.y, p.y_strides, at);
    const int64_t rows = std::min(x.end_row, kTileHeight + p.halo_rows());
    const int64_t columns = std::min(x.end_column, columns_read(p));
    constexpr int64_t kLine = 64 / sizeof(Scalar);
    for (int64_t i = std::max<int64_t>(x.first_row, p.halo_rows()); i < rows;
         ++i) {
      for (int64_t j = x.nearest_column(); j < columns; j += kLine) {
        __builtin_prefetch(x.pixel(i, j));
        __builtin_prefetch(y.pixel(i, j));
      }
    }
  }

  ssim::Pivots<T> pivots() const { return units_.pivots(); }
  T inverse_range() const { return units_.inverse_range; }

  // The columns that are read, in whole vectors.
  static int64_t columns_read(const SsimProblem& p) {
    return divide_up(kTileWidth + p.halo_columns(), kLanes<T>) * kLanes<T>;
  }
  const T* row(int term, int64_t i) const { return terms_[term][i]; }
  const T* differences(int64_t i) const { return differences_[i]; }

 private:
  void read_row(int64_t i, int64_t columns, const Plane<Scalar>& x,
                const Plane<Scalar>& y, const Plane<bool>& mask) {
    Scalar x_scratch[kReadWidth], y_scratch[kReadWidth];
    const auto x_row = x.row(i, columns, x_scratch);
    const auto y_row = y.row(i, columns, y_scratch);
    T weight[kReadWidth];
    if constexpr (kMasked) mask.weights(i, columns, weight);
    for (int64_t j = 0; j < columns; j += kLanes<T>) {
      const auto raw_x = x_row.template at<T>(j);
      const auto raw_y = y_row.template at<T>(j);
      auto of_x = units_.x(raw_x);
      auto difference = units_.difference(raw_x, raw_y);
      if constexpr (kMasked) {
        const auto valid = load<T>(weight + j);
        of_x = select(valid == 0, Vector<T>{}, of_x);
        difference = select(valid == 0, Vector<T>{}, difference);
        store<T>(terms_[kWeight][i] + j, valid);
      }
      const auto of_y = of_x - difference;
      store<T>(terms_[ssim::kMean][i] + j, of_x);
      store<T>(terms_[ssim::kMeanDifference][i] + j, difference);
      store<T>(terms_[ssim::kSquares][i] + j, of_x * of_x + of_y * of_y);
      store<T>(terms_[ssim::kSquaredDifference][i] + j,
               difference * difference);
    }
  }

  // The pivot of the image's pixels among those that the tile reads.
  static T pivot(const Plane<Scalar>& image, const Plane<bool>& mask,
                 const SsimProblem& p) {
    const int64_t top = std::max<int64_t>(0, image.first_row);
    const int64_t left = std::max<int64_t>(0, image.first_column);
    const int64_t height =
        std::min(kTileHeight + p.halo_rows(), image.end_row) - top;
    const int64_t width =
        std::min(kTileWidth + p.halo_columns(), image.end_column) - left;
    if (height <= 0 || width <= 0) return 0;
    const auto is_number = [&](int64_t i, int64_t j) {
      if (kMasked && !*mask.pixel(i, j)) return false;
      return std::isfinite(static_cast<T>(*image.pixel(i, j)));
    };
    T pixels[ssim::kPivotPixels];
    int count = 0;
    for (int s = 0; s < ssim::kPivotPixels; ++s) {
      const int64_t i = top + ssim::pivot_row(s, height);
      const int64_t j = left + ssim::pivot_column(s, width);
      if (is_number(i, j)) pixels[count++] = static_cast<T>(*image.pixel(i, j));
    }
    T sum = 0;
    if (count > 0) {
      std::sort(pixels, pixels + count);
      const int drop = ssim::outermost(count);
      for (int s = drop; s < count - drop; ++s) sum += pixels[s];
      return sum / static_cast<T>(count - 2 * drop);
    }
    for (int64_t i = top; kMasked && i < top + height; ++i) {
      for (int64_t j = left; j < left + width; ++j) {
        if (!is_number(i, j)) continue;
        sum += static_cast<T>(*image.pixel(i, j));
        ++count;
      }
    }
    return count > 0 ? sum / static_cast<T>(count) : T(0);
  }

  ssim::Units<T> units_;
  alignas(64) T terms_[kTerms][kReadHeight][kReadWidth];
  alignas(64) T differences_[kTileHeight][kTileWidth];
};

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
