// The code that both passes in strips share. A block owns a strip of columns
// and goes down a band of rows; a thread owns kColumns columns of the strip.
#pragma once

#include <type_traits>

#include "ssim/cuda/device.h"

namespace vtadl::ssim {

// The pixels of a row that the windows of a thread's columns hold.
constexpr int kRowPixels = kColumns + kHalo;

// A row in shared memory holds a value for each of the threads' columns and a
// halo.
VTADL_INLINE int row_size(int threads) { return threads * kColumns + kHalo; }

// The terms whose means are the statistics: x', d, x'² + y'² and d².
__device__ inline float4 terms_of(float x, float difference) {
  const float y = x - difference;
  return make_float4(x, difference, x * x + y * y, difference * difference);
}

// The pixels of a row in shared memory. Even columns come before odd ones, so
// that a warp reads neighbours, from all banks. A float4 holds the terms of a
// pixel; a float2 holds x' and d, of which the terms are made: less to read,
// but more to compute.
template <typename Stored>
class PixelRow {
 public:
  __device__ explicit PixelRow(Stored* pixels) : pixels_(pixels) {}

  // The terms of pixel j of those that the thread's windows hold.
  __device__ float4 terms(int j) const {
    const Stored pixel = pixels_[index(threadIdx.x, j)];
    if constexpr (std::is_same_v<Stored, float4>) {
      return pixel;
    } else {
      return terms_of(pixel.x, pixel.y);
    }
  }

  // Stores pixel j of those that the windows of `thread` hold, or would hold if
  // the block had this thread.
  __device__ void store(int thread, int j, float x, float difference) {
    if constexpr (std::is_same_v<Stored, float4>) {
      pixels_[index(thread, j)] = terms_of(x, difference);
    } else {
      pixels_[index(thread, j)] = make_float2(x, difference);
    }
  }

 private:
  __device__ static int index(int thread, int j) {
    return (j % 2) * (row_size(blockDim.x) / 2) + thread + j / 2;
  }

  Stored* pixels_;
};

// -------------------------------------------------------------------- pixels

// The part of a region of rows × columns that lies in a plane. The region's
// (0, 0) is at `top`, `left` of the plane.
struct Inside {
  int row_begin, row_end, column_begin, column_end;

  __device__ Inside(int64_t top, int64_t left, int rows, int columns,
                    int64_t height, int64_t width)
      : row_begin(clamp(-top, rows)),
        row_end(clamp(height - top, rows)),
        column_begin(clamp(-left, columns)),
        column_end(clamp(width - left, columns)) {}

  __device__ bool holds_row(int i) const {
    return i >= row_begin && i < row_end;
  }
  __device__ bool holds_column(int j) const {
    return j >= column_begin && j < column_end;
  }

  // The part of a region of windows that no tile above or to the left has. It
  // may be empty.
  __device__ Inside without_halo(const Tile& tile) const {
    Inside result = *this;
    if (tile.top > 0) result.row_begin = min(kHalo, row_end);
    if (tile.left > 0) result.column_begin = min(kHalo, column_end);
    return result;
  }

  __device__ int rows() const { return row_end - row_begin; }
  __device__ int columns() const { return column_end - column_begin; }

 private:
  __device__ static int clamp(int64_t value, int limit) {
    return static_cast<int>(smaller(value < 0 ? 0 : value, limit));
  }
};

// The pixels that a block reads. Those in the border and beyond are 0.
template <typename Scalar>
struct Region {
  const Plane<const Scalar> x, y;
  const int64_t top, left;  // where (0, 0) lies in the images
  const Inside inside;

  __device__ Region(const SsimProblem& p, int64_t plane, int64_t top,
                    int64_t left, int rows, int columns)
      : x(p, p.x, p.x_strides, plane),
        y(p, p.y, p.y_strides, plane),
        top(top),
        left(left),
        inside(top, left, rows, columns, p.height, p.width) {}

  // The units of the region. All lanes of the warp have to take part.
  __device__ Units<float> units(float inverse_range) const {
    const int which = threadIdx.x % kPivotPixels;
    const int64_t i = top + inside.row_begin + pivot_row(which, inside.rows());
    const int64_t j =
        left + inside.column_begin + pivot_column(which, inside.columns());
    const auto of_x = static_cast<float>(*x.at(i, j));
    const auto of_y = static_cast<float>(*y.at(i, j));
    const float pivot_x = pivot_of_lanes(of_x, true, 0.0f);
    const float pivot_y = pivot_of_lanes(of_y, true, 0.0f);
    return {inverse_range, pivot_x, pivot_x - pivot_y};
  }
};

// Column k of the thread, among those of the block.
__device__ inline int thread_column(int k) {
  return threadIdx.x * kColumns + k;
}

// Stores values of the thread's columns to a row in shared memory.
__device__ inline void store_pair(float* row, float first, float second) {
  *reinterpret_cast<float2*>(row + thread_column(0)) =
      make_float2(first, second);
}

// Loads a thread's pixels of one row after the other, and stores them to shared
// memory: those of its columns and, for the first threads, a pixel of the halo
// beyond the last thread's columns.
template <typename Scalar>
class RowLoader {
 public:
  __device__ explicit RowLoader(const Region<Scalar>& region)
      : from_x_(region.x.at(region.top + region.inside.row_begin,
                            region.left + thread_column(0))),
        from_y_(region.y.at(region.top + region.inside.row_begin,
                            region.left + thread_column(0))) {
    VTADL_UNROLL
    for (int k = 0; k < kCount; ++k) {
      is_inside_[k] =
          region.inside.holds_column(column(k)) && (k < kColumns || has_halo());
    }
  }

  // Loads row i. The first call names the region's first row in the plane, each
  // other the next row.
  __device__ void load(const Region<Scalar>& region, int i) {
    VTADL_UNROLL
    for (int k = 0; k < kCount; ++k) {
      x_[k] = y_[k] = static_cast<Scalar>(0.0f);
    }
    if (!region.inside.holds_row(i)) return;
    VTADL_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const int64_t step = column(k) - thread_column(0);
      if (!is_inside_[k]) continue;
      x_[k] = from_x_[step * region.x.column_stride];
      y_[k] = from_y_[step * region.y.column_stride];
    }
    from_x_ += region.x.row_stride;
    from_y_ += region.y.row_stride;
  }

  // Stores the row that was loaded last.
  template <typename Stored>
  __device__ void store(const Units<float>& units, PixelRow<Stored> row) const {
    VTADL_UNROLL
    for (int k = 0; k < kCount; ++k) {
      if (k == kColumns && !has_halo()) break;
      const float x = static_cast<float>(x_[k]);
      const float difference = units.difference(x, static_cast<float>(y_[k]));
      if (k < kColumns) {
        row.store(threadIdx.x, k, units.x(x), difference);
      } else {
        row.store(blockDim.x, threadIdx.x, units.x(x), difference);
      }
    }
  }

  // Adds the errors of the pixels in the thread's columns and, if `halo`, those
  // in the halo.
  __device__ void add_errors(bool halo, float (&sums)[SsimSums::kCount]) const {
    VTADL_UNROLL
    for (int k = 0; k < kCount; ++k) {
      if (k == kColumns && !(halo && has_halo())) break;
      ssim::add_errors(static_cast<float>(x_[k]), static_cast<float>(y_[k]),
                       sums);
    }
  }

 private:
  static constexpr int kCount = kColumns + 1;

  __device__ static bool has_halo() { return threadIdx.x < kHalo; }
  __device__ static int column(int k) {
    return k < kColumns ? thread_column(k)
                        : kColumns * blockDim.x + threadIdx.x;
  }

  const Scalar* from_x_;  // the next row of the images
  const Scalar* from_y_;
  bool is_inside_[kCount];
  Scalar x_[kCount], y_[kCount];
};

// ------------------------------------------------------------- weighted sums

// Loads the values that the thread's windows hold of a row in shared memory.
__device__ inline void load_row(const float* row, float (&values)[kRowPixels]) {
  VTADL_UNROLL
  for (int j = 0; j < kRowPixels; j += kColumns) {
    const float2 pair =
        *reinterpret_cast<const float2*>(row + threadIdx.x * kColumns + j);
    values[j] = pair.x;
    values[j + 1] = pair.y;
  }
}

// Adds value j of a row to the sums of the thread's windows that hold it.
__device__ inline void add_weighted(const Taps<float>& taps, int j, float value,
                                    float (&sums)[kColumns]) {
  VTADL_UNROLL
  for (int k = 0; k < kColumns; ++k) {
    if (j >= k && j < k + kTaps) sums[k] += taps.weights[j - k] * value;
  }
}

// The weighted sum of the last kTaps values. A running sum keeps, instead of
// the values, what they will add to the sums to come: no value moves between
// registers.
struct RunningSum {
  float pending[kHalo];

  __device__ float push(const Taps<float>& taps, float value) {
    const float sum = pending[0] + taps.weights[kHalo] * value;
    VTADL_UNROLL
    for (int t = 1; t < kHalo; ++t) {
      pending[t - 1] = pending[t] + taps.weights[kHalo - t] * value;
    }
    pending[kHalo - 1] = taps.weights[0] * value;
    return sum;
  }
};

// The statistics of the windows of a thread's columns. push() takes one row
// after the other.
struct WindowMeans {
  RunningSum running[kStatistics][kColumns] = {};
  float means[kStatistics][kColumns];

  template <typename Stored>
  __device__ void push(const Taps<float>& taps, const PixelRow<Stored>& row) {
    float sums[kStatistics][kColumns] = {};
    VTADL_UNROLL
    for (int j = 0; j < kRowPixels; ++j) {
      const float4 terms = row.terms(j);
      add_weighted(taps, j, terms.x, sums[kMean]);
      add_weighted(taps, j, terms.y, sums[kMeanDifference]);
      add_weighted(taps, j, terms.z, sums[kSquares]);
      add_weighted(taps, j, terms.w, sums[kSquaredDifference]);
    }
    VTADL_UNROLL
    for (int s = 0; s < kStatistics; ++s) {
      VTADL_UNROLL
      for (int k = 0; k < kColumns; ++k) {
        means[s][k] = running[s][k].push(taps, sums[s][k]);
      }
    }
  }

  // The index of the window in column k that ends with the last row.
  __device__ Similarity<float> similarity(int k, const Constants<float>& c,
                                          const Pivots<float>& pivots) const {
    const float statistics[kStatistics] = {
        means[kMean][k], means[kMeanDifference][k], means[kSquares][k],
        means[kSquaredDifference][k]};
    return ssim::similarity(statistics, c, pivots);
  }
};

}  // namespace vtadl::ssim
