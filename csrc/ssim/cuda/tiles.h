// The code that both passes in tiles share. A block works on one tile per
// round.
#pragma once

#include "ssim/cuda/device.h"

namespace vtadl::ssim {

// -------------------------------------------------------------------- pixels

// The pixels that a block reads. The terms of an invalid pixel are 0, whatever
// it holds.
template <typename Scalar>
class Pixels {
  using T = Accumulate<Scalar>;

 public:
  const bool masked;

  // Pixel (0, 0) is at `top`, `left` of the images with their border. The
  // pivots are those of the first height × width pixels.
  __device__ Pixels(const SsimProblem& p, T inverse_range, int64_t plane,
                    int64_t top, int64_t left, int height, int width)
      : masked(p.mask != nullptr),
        x_(p, p.x, p.x_strides, plane),
        y_(p, p.y, p.y_strides, plane),
        mask_(p, p.mask, p.mask_strides, plane),
        top_(top - p.border_rows),
        left_(left - p.border_columns),
        height_(p.height),
        width_(p.width),
        units_{inverse_range, T(0), T(0)} {
    const Span rows(-top_, p.height - top_, height);
    const Span columns(-left_, p.width - left_, width);
    if (rows.count <= 0 || columns.count <= 0) return;
    const int which = threadIdx.x % kPivotPixels;
    const int i = rows.begin + pivot_row(which, rows.count);
    const int j = columns.begin + pivot_column(which, columns.count);
    const bool valid = is_valid(i, j);
    const bool no_pixel = masked && !__any_sync(kFullMask, valid);
    const T otherwise_x = no_pixel ? mean_of(height, width, true) : T(0);
    const T otherwise_y = no_pixel ? mean_of(height, width, false) : T(0);
    const T pivot_x = pivot_of_lanes(raw_x(i, j), valid, otherwise_x);
    const T pivot_y = pivot_of_lanes(raw_y(i, j), valid, otherwise_y);
    units_ = {inverse_range, pivot_x, pivot_x - pivot_y};
  }

  __device__ Pivots<T> pivots() const { return units_.pivots(); }

  // Whether the pixel lies in the images, not in their border.
  __device__ bool is_inside(int i, int j) const {
    const int64_t row = top_ + i, column = left_ + j;
    return row >= 0 && row < height_ && column >= 0 && column < width_;
  }
  __device__ bool is_valid(int i, int j) const {
    return is_inside(i, j) && (!masked || *mask_.at(top_ + i, left_ + j));
  }

  // The values of a pixel inside.
  __device__ T raw_x(int i, int j) const {
    return static_cast<T>(*x_.at(top_ + i, left_ + j));
  }
  __device__ T raw_y(int i, int j) const {
    return static_cast<T>(*y_.at(top_ + i, left_ + j));
  }

  // x' and d of a pixel. Without a mask the pixels of the border count as well.
  __device__ T x(int i, int j) const {
    return is_valid(i, j) ? units_.x(raw_x(i, j))
           : masked       ? T(0)
                          : units_.x(T(0));
  }
  __device__ T difference(int i, int j) const {
    return is_valid(i, j) ? units_.difference(raw_x(i, j), raw_y(i, j))
           : masked       ? T(0)
                          : units_.difference(T(0), T(0));
  }

  // The term of a pixel whose mean is the statistic.
  __device__ T term(int statistic, int i, int j) const {
    const T x = this->x(i, j), difference = this->difference(i, j);
    const T y = x - difference;
    switch (statistic) {
      case kMean:
        return x;
      case kMeanDifference:
        return difference;
      case kSquares:
        return x * x + y * y;
      default:
        return difference * difference;
    }
  }

 private:
  // The mean of the valid finite pixels of x, or of y. All lanes of the warp
  // have to take part.
  __device__ T mean_of(int height, int width, bool of_x) const {
    T sum = 0, count = 0;
    for (int item = threadIdx.x % kWarp; item < height * width; item += kWarp) {
      const int i = item / width, j = item % width;
      if (!is_valid(i, j)) continue;
      const T pixel = of_x ? raw_x(i, j) : raw_y(i, j);
      if (!std::isfinite(pixel)) continue;
      sum += pixel;
      count += 1;
    }
    sum = warp_sum(sum);
    count = warp_sum(count);
    return count > 0 ? sum / count : T(0);
  }

  // The part of [0, most) that lies in [first, end).
  struct Span {
    int begin, count;

    __device__ Span(int64_t first, int64_t end, int most)
        : begin(static_cast<int>(first < 0 ? 0 : first)),
          count(static_cast<int>(smaller(end, most)) - begin) {}
  };

  const Plane<const Scalar> x_, y_;
  const Plane<const bool> mask_;
  const int64_t top_, left_, height_, width_;
  Units<T> units_;
};

// ------------------------------------------------------------- weighted sums

// Sums over windows, down the columns and then along the rows: calls
// store(i, j, Σ down[s]·along[t]·load(i + s, j + t)) for all i < height and
// j < width. `smem` holds height × (width + along.count - 1) values.
template <typename T, typename Load, typename Store>
__device__ void blur(const Window<T>& window, int height, int width, T* smem,
                     const Load& load, const Store& store) {
  const Taps<T>& down = window.vertical;
  const Taps<T>& along = window.horizontal;
  const int columns = width + along.count - 1;
  for (int item = threadIdx.x; item < height * columns; item += kTileThreads) {
    const int i = item / columns, j = item % columns;
    T sum = 0;
    for (int t = 0; t < down.count; ++t) {
      sum += down.weights[t] * load(i + t, j);
    }
    smem[item] = sum;
  }
  __syncthreads();
  for (int item = threadIdx.x; item < height * width; item += kTileThreads) {
    const int i = item / width, j = item % width;
    T sum = 0;
    for (int t = 0; t < along.count; ++t) {
      sum += along.weights[t] * smem[i * columns + j + t];
    }
    store(i, j, sum);
  }
  __syncthreads();
}

// The statistics of height × width windows and, under a mask, the weights of
// their valid pixels.
template <typename T>
struct Windows {
  T* means;  // [kStatistics, size]
  int size;
  T* weights;  // [size]; null without a mask

  template <typename Scalar>
  __device__ Windows(const Window<T>& window, const Pixels<Scalar>& pixels,
                     int height, int width, T* smem, T* means)
      : means(means),
        size(height * width),
        weights(pixels.masked ? means + kStatistics * size : nullptr) {
    if (weights) {
      blur(
          window, height, width, smem,
          [&](int i, int j) { return T(pixels.is_valid(i, j)); },
          [&](int i, int j, T weight) { weights[i * width + j] = weight; });
    }
    for (int s = 0; s < kStatistics; ++s) {
      blur(
          window, height, width, smem,
          [&](int i, int j) { return pixels.term(s, i, j); },
          [&](int i, int j, T sum) {
            const int at = i * width + j;
            means[s * size + at] = weights ? sum / weights[at] : sum;
          });
    }
  }

  // Whether the window has a valid pixel.
  __device__ bool counts(int at) const {
    return !weights || weights[at] >= T(kLeastWeight);
  }
  __device__ Similarity<T> similarity(int at, const Constants<T>& c,
                                      const Pivots<T>& pivots) const {
    const T statistics[kStatistics] = {means[at], means[size + at],
                                       means[2 * size + at],
                                       means[3 * size + at]};
    return ssim::similarity(statistics, c, pivots);
  }
};

}  // namespace vtadl::ssim
