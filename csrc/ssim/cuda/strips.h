// Windows of 11 taps in float32 without a mask: a block owns a strip of columns
// and goes down a band of rows. What both passes have in common.
#pragma once

#include <type_traits>

#include "ssim/cuda/device.h"

namespace vtadl::ssim {

constexpr int kTaps = 11;
constexpr int kHalo = kTaps - 1;
constexpr int kColumns = 2;               // of a thread, side by side
constexpr int kReach = kColumns + kHalo;  // values of a row that they sum
constexpr int kMaxThreads = 128;

// Whether these kernels can work on the problem. Within a wider border would
// be windows that touch no tile.
inline bool fits_strips(const SsimProblem& p) {
  return p.taps == kTaps && p.dtype != DType::kFloat64 && p.mask == nullptr &&
         p.border < kTaps;
}

// Values of a row in shared memory: the threads' columns and a halo.
VTADL_INLINE int row_room(int threads) { return threads * kColumns + kHalo; }

// What the statistics are the means of: x', d, x'² + y'², d².
__device__ inline float4 terms_of(float x, float difference) {
  const float y = x - difference;
  return make_float4(x, difference, x * x + y * y, difference * difference);
}

// Pixels of a row in shared memory: even columns, then odd ones, so that a warp
// reads neighbours, from all banks. As float4 the terms of the statistics, as
// float2 what they are made of: less to read, but more to compute.
template <typename Stored>
class PixelRow {
 public:
  __device__ explicit PixelRow(Stored* pixels) : pixels_(pixels) {}

  // Pixel j of the thread's reach.
  __device__ float4 terms(int j) const {
    const Stored pixel = pixels_[index(threadIdx.x, j)];
    if constexpr (std::is_same_v<Stored, float4>) {
      return pixel;
    } else {
      return terms_of(pixel.x, pixel.y);
    }
  }

  // Pixel j of what is the reach of `thread`, or would be.
  __device__ void store(int thread, int j, float x, float difference) {
    if constexpr (std::is_same_v<Stored, float4>) {
      pixels_[index(thread, j)] = terms_of(x, difference);
    } else {
      pixels_[index(thread, j)] = make_float2(x, difference);
    }
  }

 private:
  __device__ static int index(int thread, int j) {
    return (j % 2) * (row_room(blockDim.x) / 2) + thread + j / 2;
  }

  Stored* pixels_;
};

// -------------------------------------------------------------------- pixels

// What of rows × columns values lies in a plane, where (0, 0) is at `top`,
// `left`.
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

  // Of windows, those that no tile above or to the left has: maybe none.
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

// The pixels that a block looks at; those in the border and beyond are 0.
template <typename Scalar>
struct Region {
  const Plane<const Scalar> x, y;
  const int64_t top, left;  // of (0, 0) in the images
  const Inside inside;

  __device__ Region(const SsimProblem& p, int64_t plane, int64_t top,
                    int64_t left, int rows, int columns)
      : x(p, p.x, p.x_strides, plane),
        y(p, p.y, p.y_strides, plane),
        top(top),
        left(left),
        inside(top, left, rows, columns, p.height, p.width) {}

  // For all lanes of a warp.
  __device__ Units<float> units(float scale) const {
    const int which = threadIdx.x % kPivotPixels;
    const int64_t i = top + inside.row_begin + pivot_row(which, inside.rows());
    const int64_t j =
        left + inside.column_begin + pivot_column(which, inside.columns());
    const auto of_x = static_cast<float>(*x.at(i, j));
    const auto of_y = static_cast<float>(*y.at(i, j));
    return Units<float>(scale, pivot_of_lanes(of_x, true, 0.0f),
                        pivot_of_lanes(of_y, true, 0.0f));
  }
};

// A thread's column k in the block's.
__device__ inline int own_column(int k) { return threadIdx.x * kColumns + k; }

// Values of a thread's columns, to a row in shared memory.
__device__ inline void store_pair(float* row, float first, float second) {
  *reinterpret_cast<float2*>(row + own_column(0)) = make_float2(first, second);
}

// A thread's share of the rows, on its way to shared memory: its columns and,
// for the first threads, a pixel of the halo beyond the last thread's.
template <typename Scalar>
class RowShare {
 public:
  __device__ explicit RowShare(const Region<Scalar>& region)
      : from_x_(region.x.at(region.top + region.inside.row_begin,
                            region.left + own_column(0))),
        from_y_(region.y.at(region.top + region.inside.row_begin,
                            region.left + own_column(0))) {
    VTADL_UNROLL
    for (int k = 0; k < kCount; ++k) {
      is_inside_[k] =
          region.inside.holds_column(column(k)) && (k < kColumns || has_halo());
    }
  }

  // Row i, and then one after the other.
  __device__ void load(const Region<Scalar>& region, int i) {
    VTADL_UNROLL
    for (int k = 0; k < kCount; ++k) {
      x_[k] = y_[k] = static_cast<Scalar>(0.0f);
    }
    if (!region.inside.holds_row(i)) return;
    VTADL_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const int64_t step = column(k) - own_column(0);
      if (!is_inside_[k]) continue;
      x_[k] = from_x_[step * region.x.column_stride];
      y_[k] = from_y_[step * region.y.column_stride];
    }
    from_x_ += region.x.row_stride;
    from_y_ += region.y.row_stride;
  }

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

  // Of the pixels in the threads' columns, and maybe those in the halo.
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
    return k < kColumns ? own_column(k) : kColumns * blockDim.x + threadIdx.x;
  }

  const Scalar* from_x_;  // the next row of the images
  const Scalar* from_y_;
  bool is_inside_[kCount];
  Scalar x_[kCount], y_[kCount];
};

// ------------------------------------------------------------- weighted sums

// What the windows of a thread's columns hold of a row in shared memory.
__device__ inline void load_reach(const float* row, float (&values)[kReach]) {
  VTADL_UNROLL
  for (int j = 0; j < kReach; j += kColumns) {
    const float2 pair =
        *reinterpret_cast<const float2*>(row + threadIdx.x * kColumns + j);
    values[j] = pair.x;
    values[j + 1] = pair.y;
  }
}

// Adds value j of the reach to the sums of the windows that hold it.
__device__ inline void add_weighted(const Window<float>& window, int j,
                                    float value, float (&sums)[kColumns]) {
  VTADL_UNROLL
  for (int k = 0; k < kColumns; ++k) {
    if (j >= k && j < k + kTaps) sums[k] += window.weights[j - k] * value;
  }
}

// The weighted sum of the last kTaps values. It keeps, instead of the values,
// what they will add to the sums to come: no value moves between registers.
struct RunningSum {
  float pending[kHalo];

  __device__ float push(const Window<float>& window, float value) {
    const float sum = pending[0] + window.weights[kHalo] * value;
    VTADL_UNROLL
    for (int t = 1; t < kHalo; ++t) {
      pending[t - 1] = pending[t] + window.weights[kHalo - t] * value;
    }
    pending[kHalo - 1] = window.weights[0] * value;
    return sum;
  }
};

// The statistics of the windows of a thread's columns, as row after row comes.
struct WindowMeans {
  RunningSum running[kStatistics][kColumns] = {};
  float means[kStatistics][kColumns];

  template <typename Stored>
  __device__ void push(const Window<float>& window,
                       const PixelRow<Stored>& row) {
    float sums[kStatistics][kColumns] = {};
    VTADL_UNROLL
    for (int j = 0; j < kReach; ++j) {
      const float4 terms = row.terms(j);
      add_weighted(window, j, terms.x, sums[kMean]);
      add_weighted(window, j, terms.y, sums[kMeanDifference]);
      add_weighted(window, j, terms.z, sums[kSquares]);
      add_weighted(window, j, terms.w, sums[kSquaredDifference]);
    }
    VTADL_UNROLL
    for (int s = 0; s < kStatistics; ++s) {
      VTADL_UNROLL
      for (int k = 0; k < kColumns; ++k) {
        means[s][k] = running[s][k].push(window, sums[s][k]);
      }
    }
  }

  // Of the windows that end with the row that came last.
  __device__ Similarity<float> similarity(int k,
                                          const Constants<float>& c) const {
    const float statistics[kStatistics] = {
        means[kMean][k], means[kMeanDifference][k], means[kSquares][k],
        means[kSquaredDifference][k]};
    return ssim::similarity(statistics, c);
  }
};

// ------------------------------------------------------------------- tilings

// How planes are cut, and the threads of a block.
struct StripPlan {
  Tiling tiling;
  int threads;
};

// Strips, of which `lost_columns` of the threads' columns are no part, and
// bands of the height: those that end first, where a multiprocessor works on
// resident(threads) blocks at a time, a row takes all blocks as long, and a
// band costs `lost_rows` more than it has.
template <typename Resident>
StripPlan strip_plan(int64_t planes, int64_t height, int64_t width,
                     int lost_rows, int lost_columns,
                     const Resident& resident) {
  constexpr int kLeastRows = 16, kMostRows = 256, kStep = 8;
  StripPlan best{};
  int64_t best_cost = 0;
  for (int threads = kMaxThreads; threads > 0; threads -= kWarp) {
    const int tile_width = threads * kColumns - lost_columns;
    const int64_t slots = multiprocessors() * resident(threads);
    for (int rows = kLeastRows; rows <= kMostRows; rows += kStep) {
      const Tiling tiling{planes, height, width, rows, tile_width};
      const int64_t cost =
          divide_up(tiling.count(), slots) * (rows + lost_rows);
      if (best.threads == 0 || cost < best_cost) {
        best = {tiling, threads};
        best_cost = cost;
      }
    }
  }
  return best;
}

}  // namespace vtadl::ssim
