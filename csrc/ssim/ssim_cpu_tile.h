// The pixels of a tile and of the windows that begin in it.
#pragma once

#include <algorithm>
#include <cmath>

#include "common/integers.h"
#include "common/simd_memory.h"
#include "ssim/ssim_math.h"

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

template <typename T>
struct Pivots {
  T x, y;
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
    unit_ = static_cast<T>(1 / p.data_range);
    pivots_ = {pivot(p, p.x, p.x_strides, at), pivot(p, p.y, p.y_strides, at)};
    for (int64_t i = 0; i < kTileRows + p.taps - 1; ++i) {
      read_row(p, p.x, p.x_strides, at, i, pivots_.x, planes_[ssim::kMeanX][i]);
      read_row(p, p.y, p.y_strides, at, i, pivots_.y, planes_[ssim::kMeanY][i]);
      if constexpr (kMasked) apply_mask(p, at, i);
      multiply(i, columns_read(p));
    }
  }

  // Whole vectors.
  static int64_t columns_read(const SsimProblem& p) {
    return divide_up(kTileColumns + p.taps - 1, kLanes<T>) * kLanes<T>;
  }

  // Reads x - y of the tile's own pixels, 0 outside of the image.
  void read_differences(const SsimProblem& p, const TilePlace& at) {
    const int64_t left = at.left - p.border;
    const int64_t begin = std::clamp<int64_t>(-left, 0, kTileColumns);
    const int64_t end =
        std::clamp<int64_t>(p.width - left, begin, kTileColumns);
    for (int64_t i = 0; i < kTileRows; ++i) {
      const int64_t row = at.top + i - p.border;
      std::fill_n(differences_[i], kTileColumns, T(0));
      if (row < 0 || row >= p.height) continue;
      const Scalar* x = pixel(p, p.x, p.x_strides, at.plane, row, left + begin);
      const Scalar* y = pixel(p, p.y, p.y_strides, at.plane, row, left + begin);
      for (int64_t j = 0; j < end - begin; ++j) {
        differences_[i][begin + j] = static_cast<T>(x[j * p.x_strides.column]) -
                                     static_cast<T>(y[j * p.y_strides.column]);
      }
    }
  }

  // In units of the data range.
  Pivots<T> pivots() const { return {pivots_.x * unit_, pivots_.y * unit_}; }
  T unit() const { return unit_; }

  const T* row(int statistic, int64_t i) const { return planes_[statistic][i]; }
  const T* plane(int statistic) const { return planes_[statistic][0]; }
  const T* differences(int64_t i) const { return differences_[i]; }

 private:
  static const Scalar* pixel(const SsimProblem& p, const void* image,
                             const ImageStrides& strides, int64_t plane,
                             int64_t row, int64_t column) {
    return static_cast<const Scalar*>(image) + p.plane_offset(strides, plane) +
           row * strides.row + column * strides.column;
  }

  static bool is_valid(const SsimProblem& p, int64_t plane, int64_t row,
                       int64_t column) {
    if (!kMasked) return true;
    const ImageStrides& s = p.mask_strides;
    return p.mask[p.plane_offset(s, plane) + row * s.row + column * s.column];
  }

  // Mean of some pixels of the tile, or under a mask of all valid ones; 0 where
  // that is no number, lest it spoil windows that hold none of them.
  static T pivot(const SsimProblem& p, const void* image,
                 const ImageStrides& strides, const TilePlace& at) {
    const int64_t top = clamp_row(p, at.top), left = clamp_column(p, at.left);
    const int64_t height = std::min(kTileRows, p.height - top);
    const int64_t width = std::min(kTileColumns, p.width - left);
    T sum = 0, count = 0;
    const auto add = [&](int64_t i, int64_t j) {
      if (!is_valid(p, at.plane, top + i, left + j)) return;
      sum += static_cast<T>(
          *pixel(p, image, strides, at.plane, top + i, left + j));
      count += 1;
    };
    if constexpr (kMasked) {
      for (int64_t i = 0; i < height; ++i) {
        for (int64_t j = 0; j < width; ++j) add(i, j);
      }
    } else {
      for (int s = 0; s < ssim::kPivotPixels; ++s) {
        add(ssim::pivot_row(s, height), ssim::pivot_column(s, width));
      }
    }
    const T mean = sum / std::max(count, T(1));
    return std::isfinite(mean) ? mean : T(0);
  }

  // The first pixel of the image in the tile, or the last one before it.
  static int64_t clamp_row(const SsimProblem& p, int64_t top) {
    return std::clamp<int64_t>(top - p.border, 0, p.height - 1);
  }
  static int64_t clamp_column(const SsimProblem& p, int64_t left) {
    return std::clamp<int64_t>(left - p.border, 0, p.width - 1);
  }

  void read_row(const SsimProblem& p, const void* image,
                const ImageStrides& strides, const TilePlace& at, int64_t i,
                T pivot, T* out) const {
    const int64_t columns = columns_read(p);
    const int64_t row = at.top + i - p.border, left = at.left - p.border;
    const bool inside = row >= 0 && row < p.height;
    const int64_t begin =
        std::clamp<int64_t>(inside ? -left : columns, 0, columns);
    const int64_t end = std::clamp<int64_t>(p.width - left, begin, columns);
    std::fill_n(out, begin, -pivot * unit_);
    std::fill(out + end, out + columns, -pivot * unit_);
    if (begin == end) return;
    const Scalar* from = pixel(p, image, strides, at.plane, row, left + begin);
    out += begin;
    if (strides.column == 1) {
      for_each_vector<T>(end - begin, [&](int64_t j, int count) {
        store<T>(out + j, (load<T>(from + j, count) - pivot) * unit_, count);
      });
    } else {
      for (int64_t j = 0; j < end - begin; ++j) {
        out[j] = (static_cast<T>(from[j * strides.column]) - pivot) * unit_;
      }
    }
  }

  void apply_mask(const SsimProblem& p, const TilePlace& at, int64_t i) {
    T* x = planes_[ssim::kMeanX][i];
    T* y = planes_[ssim::kMeanY][i];
    T* weight = planes_[kWeight][i];
    const int64_t row = at.top + i - p.border, left = at.left - p.border;
    for (int64_t j = 0; j < columns_read(p); ++j) {
      const bool inside =
          row >= 0 && row < p.height && left + j >= 0 && left + j < p.width;
      const bool valid = inside && is_valid(p, at.plane, row, left + j);
      weight[j] = valid ? T(1) : T(0);
      x[j] = valid ? x[j] : T(0);
      y[j] = valid ? y[j] : T(0);
    }
  }

  void multiply(int64_t i, int64_t columns) {
    for (int64_t j = 0; j < columns; j += kLanes<T>) {
      const auto x = load<T>(planes_[ssim::kMeanX][i] + j);
      const auto y = load<T>(planes_[ssim::kMeanY][i] + j);
      store<T>(planes_[ssim::kSquares][i] + j, x * x + y * y);
      store<T>(planes_[ssim::kProduct][i] + j, x * y);
    }
  }

  T unit_;
  Pivots<T> pivots_;
  alignas(64) T planes_[kPlanes][kReadRows][kReadColumns];
  alignas(64) T differences_[kTileRows][kTileColumns];
};

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
