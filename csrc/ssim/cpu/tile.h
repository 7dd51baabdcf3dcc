// The pixels of a tile and of the windows that begin in it.
#pragma once

#include <algorithm>
#include <cmath>

#include "common/integers.h"
#include "common/simd_memory.h"
#include "ssim/math.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

using std::int64_t;

constexpr int64_t kTileRows = 16, kTileColumns = 64;
constexpr int64_t kMaxHalo = SsimProblem::kMaxTaps - 1;
constexpr int64_t kReadRows = kTileRows + kMaxHalo;
constexpr int64_t kReadColumns = kTileColumns + kMaxHalo + 2;  // whole vectors

// Where a tile lies in the image with its border.
struct TilePlace {
  int64_t plane, top, left;
};

// One plane of images or masks, as a tile sees it: (0, 0) is the tile's first
// pixel, and the image reaches from the first to before the end.
template <typename Scalar>
struct Plane {
  int64_t first_row, first_column, end_row, end_column;

  VTADL_HOST_INLINE Plane(const SsimProblem& p, const void* images,
                          const ImageStrides& strides, const TilePlace& at)
      : first_row(p.border - at.top),
        first_column(p.border - at.left),
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

  // A row that vectors can be read from: zeros behind `count`.
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

  // In place, or in `room` where zeros come first or pixels lie apart.
  VTADL_HOST_INLINE Row row(int64_t i, int64_t columns, Scalar* room) const {
    if (i < first_row || i >= end_row) return {nullptr, 0};
    const int64_t begin = std::clamp<int64_t>(first_column, 0, columns);
    const int64_t end = std::clamp<int64_t>(end_column, begin, columns);
    if (begin == 0 && strides_.column == 1) return {pixel(i, 0), end};
    std::fill_n(room, begin, Scalar(0.0f));
    for (int64_t j = begin; j < end; ++j) room[j] = *pixel(i, j);
    return {room, end};
  }

  // Of a mask: 1 for valid pixels.
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

// Under a mask there is a fifth statistic: the weight of the valid pixels.
constexpr int kWeight = ssim::kStatistics;

template <typename Scalar, bool kMasked>
class Tile {
 public:
  using T = Accumulate<Scalar>;
  static constexpr int kPlanes = ssim::kStatistics + (kMasked ? 1 : 0);

  // Reads the tile; what lies outside of the image is 0, and masked.
  void read(const SsimProblem& p, const TilePlace& at) {
    const Plane<Scalar> x(p, p.x, p.x_strides, at);
    const Plane<Scalar> y(p, p.y, p.y_strides, at);
    const Plane<bool> mask(p, p.mask, p.mask_strides, at);
    unit_ = static_cast<T>(1 / p.data_range);
    pivot_x_ = pivot(x, mask, p.taps - 1);
    pivot_difference_ = pivot_x_ - pivot(y, mask, p.taps - 1);
    for (int64_t i = 0; i < kTileRows + p.taps - 1; ++i) {
      read_row(i, columns_read(p), x, y, mask);
    }
  }

  // Reads x - y of the tile's own pixels, 0 outside of the image.
  void read_differences(const SsimProblem& p, const TilePlace& at) {
    const Plane<Scalar> x(p, p.x, p.x_strides, at);
    const Plane<Scalar> y(p, p.y, p.y_strides, at);
    for (int64_t i = 0; i < kTileRows; ++i) {
      Scalar x_room[kReadColumns], y_room[kReadColumns];
      const auto x_row = x.row(i, kTileColumns, x_room);
      const auto y_row = y.row(i, kTileColumns, y_room);
      for (int64_t j = 0; j < kTileColumns; j += kLanes<T>) {
        store<T>(differences_[i] + j,
                 x_row.template at<T>(j) - y_row.template at<T>(j));
      }
    }
  }

  // Asks for the pixels of a tile ahead of time: its rows lie too far apart
  // for the processor to foresee them. The first ones were read with the tile
  // above. (GCC drops calls of functions that do no more than this.)
  VTADL_HOST_INLINE static void prefetch(const SsimProblem& p,
                                         const TilePlace& at) {
    const Plane<Scalar> x(p, p.x, p.x_strides, at);
    const Plane<Scalar> y(p, p.y, p.y_strides, at);
    const int64_t rows = std::min(x.end_row, kTileRows + p.taps - 1);
    const int64_t columns = std::min(x.end_column, columns_read(p));
    constexpr int64_t kLine = 64 / sizeof(Scalar);
    for (int64_t i = std::max<int64_t>(x.first_row, p.taps - 1); i < rows;
         ++i) {
      for (int64_t j = x.nearest_column(); j < columns; j += kLine) {
        __builtin_prefetch(x.pixel(i, j));
        __builtin_prefetch(y.pixel(i, j));
      }
    }
  }

  ssim::Pivots<T> pivots() const {
    return {pivot_x_ * unit_, pivot_difference_ * unit_};
  }
  T unit() const { return unit_; }

  // Whole vectors.
  static int64_t columns_read(const SsimProblem& p) {
    return divide_up(kTileColumns + p.taps - 1, kLanes<T>) * kLanes<T>;
  }
  const T* row(int statistic, int64_t i) const { return planes_[statistic][i]; }
  const T* differences(int64_t i) const { return differences_[i]; }

 private:
  void read_row(int64_t i, int64_t columns, const Plane<Scalar>& x,
                const Plane<Scalar>& y, const Plane<bool>& mask) {
    Scalar x_room[kReadColumns], y_room[kReadColumns];
    const auto x_row = x.row(i, columns, x_room);
    const auto y_row = y.row(i, columns, y_room);
    T weight[kReadColumns];
    if constexpr (kMasked) mask.weights(i, columns, weight);
    for (int64_t j = 0; j < columns; j += kLanes<T>) {
      const auto raw_x = x_row.template at<T>(j);
      const auto raw_difference = raw_x - y_row.template at<T>(j);
      auto of_x = (raw_x - pivot_x_) * unit_;
      auto difference = (raw_difference - pivot_difference_) * unit_;
      if constexpr (kMasked) {
        const auto valid = load<T>(weight + j);
        of_x = select(valid == 0, Vector<T>{}, of_x);
        difference = select(valid == 0, Vector<T>{}, difference);
        store<T>(planes_[kWeight][i] + j, valid);
      }
      const auto of_y = of_x - difference;
      store<T>(planes_[ssim::kMean][i] + j, of_x);
      store<T>(planes_[ssim::kMeanDifference][i] + j, difference);
      store<T>(planes_[ssim::kSquares][i] + j, of_x * of_x + of_y * of_y);
      store<T>(planes_[ssim::kSquaredDifference][i] + j,
               difference * difference);
    }
  }

  // Of the image's pixels among those that the tile reads.
  static T pivot(const Plane<Scalar>& image, const Plane<bool>& mask,
                 int64_t halo) {
    const int64_t top = std::max<int64_t>(0, image.first_row);
    const int64_t left = std::max<int64_t>(0, image.first_column);
    const int64_t height = std::min(kTileRows + halo, image.end_row) - top;
    const int64_t width =
        std::min(kTileColumns + halo, image.end_column) - left;
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

  T unit_;
  T pivot_x_, pivot_difference_;  // in the images' own units
  alignas(64) T planes_[kPlanes][kReadRows][kReadColumns];
  alignas(64) T differences_[kTileRows][kTileColumns];
};

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
