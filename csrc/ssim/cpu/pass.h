// One way down a band of an image, tile by tile: from pixels to the index of
// each window, and on to the gradients of the pixels.
#pragma once

#include <algorithm>

#include "common/memory.h"
#include "ssim/cpu/blur.h"
#include "ssim/cpu/plan.h"
#include "ssim/cpu/tile_pixels.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The intermediate results of the tile at hand. Arrays [column][row] hold rows
// side by side, so that the same code sums along either axis.
template <typename T, int kTerms>
struct PassScratch {
  alignas(64) T rows[kTileHeight][kReadWidth];
  alignas(64) T columns[kReadWidth][kTileHeight];
  alignas(64) T means[kTerms][kTileWidth][kTileHeight];
  alignas(64) T values[kTileWidth][kTileHeight];
  alignas(64) T upstream[kTileWidth][kTileHeight];
  // The derivatives by the statistics of windows: those of the tile, and of the
  // windows in the tiles to the left (grads) and above (spread) that touch the
  // same pixels. `by` holds their sums for each pixel.
  alignas(64) T grads[ssim::kDerivatives][kReadWidth][kTileHeight];
  alignas(64) T spread[ssim::kDerivatives][kReadHeight][kTileWidth];
  alignas(64) T by[ssim::kDerivatives][kTileHeight][kTileWidth];
};

// The derivatives of a tile that the next row of tiles needs.
template <typename T>
struct Carried {
  ssim::Pivots<T> pivots;
  alignas(64) T spread[ssim::kDerivatives][kMaxHalo][kTileWidth];
};

// The forward pass, the backward pass, or both at once: either of forward and
// backward may be null.
template <typename Scalar, int kTaps, bool kMasked>
class Pass {
 public:
  using T = Accumulate<Scalar>;

  Pass(const SsimProblem& p, const SsimForward* forward,
       const SsimBackward* backward)
      : p_(p),
        tiling_(tiling_of(p)),
        forward_(forward),
        backward_(backward),
        window_(p),
        constants_(p),
        halo_rows_(p.halo_rows()),
        halo_columns_(p.halo_columns()),
        errors_((forward && forward->errors) || (backward && backward->errors)),
        pixels_(1),
        scratch_(1),
        carried_(backward ? tiling_.columns() : 0) {}

  void run(const Band& band) {
    // The band's first pixels lie in windows of the rows of tiles above.
    const int64_t above = backward_ ? divide_up(halo_rows_, kTileHeight) : 0;
    const int64_t first = std::max<int64_t>(0, band.begin - above);
    for (int64_t i = first; i < band.end; ++i) {
      is_first_row_ = i == first;
      is_own_row_ = i >= band.begin;
      for (int64_t j = 0; j < tiling_.columns(); ++j) {
        prefetch_after(band.plane, i, j);
        run_tile(band.plane, i, j);
      }
    }
  }

 private:
  VTADL_HOST_INLINE void prefetch_after(int64_t plane, int64_t tile_row,
                                        int64_t tile_column) {
    const bool wraps = tile_column + 1 == tiling_.columns();
    TilePixels<Scalar, kMasked>::prefetch(
        p_, wraps ? tile(plane, tile_row + 1, 0)
                  : tile(plane, tile_row, tile_column + 1));
  }

  // A tile of the plane, which need not exist.
  VTADL_HOST_INLINE ssim::Tile tile(int64_t plane, int64_t row,
                                    int64_t column) const {
    return {plane, row * tiling_.columns() + column, row * kTileHeight,
            column * kTileWidth};
  }

  void run_tile(int64_t plane, int64_t tile_row, int64_t tile_column) {
    at_ = tile(plane, tile_row, tile_column);
    tile_column_ = tile_column;
    window_rows_ = within(p_.map_height() - at_.top, kTileHeight);
    window_columns_ = within(p_.map_width() - at_.left, kTileWidth);
    std::fill_n(sums_, SsimSums::kCount, T(0));
    const bool has_windows = window_rows_ > 0 && window_columns_ > 0;
    if (has_windows || backward_) pixels_->read(p_, at_);
    if (backward_) move_column_grads();
    if (has_windows) {
      find_means();
      backward_ ? compare<true>() : compare<false>();
    }
    if (is_own_row_ && errors_) sum_errors();
    if (is_own_row_ && forward_) write_results();
    if (backward_) {
      spread_grads();
      if (is_own_row_) write_grads();
    }
  }

  static int64_t within(int64_t count, int64_t most) {
    return std::clamp<int64_t>(count, 0, most);
  }

  // Finds the statistics of the windows, as [column][row].
  void find_means() {
    using Pixels = TilePixels<Scalar, kMasked>;
    const int64_t columns = Pixels::columns_read(p_);
    for (int s = 0; s < Pixels::kTerms; ++s) {
      for (int64_t j = 0; j < columns; j += kLanes<T>) {
        blur<kTaps>(window_.vertical, pixels_->row(s, 0) + j, kReadWidth,
                    kTileHeight, scratch_->rows[0] + j, kReadWidth);
      }
      transpose(scratch_->rows[0], kReadWidth, kTileHeight, columns,
                scratch_->columns[0], kTileHeight);
      for (int64_t i = 0; i < kTileHeight; i += kLanes<T>) {
        blur<kTaps>(window_.horizontal, scratch_->columns[0] + i, kTileHeight,
                    kTileWidth, scratch_->means[s][0] + i, kTileHeight);
      }
    }
  }

  // Finds the index of each window and, for gradients, its derivatives by the
  // statistics times the upstream gradient.
  template <bool kGrads>
  void compare() {
    const ssim::Pivots<T> pivots = pixels_->pivots();
    if constexpr (kGrads) read_upstream();
    for (int64_t i = 0; i < window_rows_; i += kLanes<T>) {
      const int rows = static_cast<int>(within(window_rows_ - i, kLanes<T>));
      const auto exists = keep<T>(broadcast<Vector<T>>(1), rows);
      Vector<T> index{}, windows{};
      for (int64_t j = 0; j < window_columns_; ++j) {
        compare_column<kGrads>(i, j, exists, pivots, index, windows);
      }
      sums_[SsimSums::kIndex] += sum<T>(index);
      sums_[SsimSums::kWindows] += sum<T>(windows);
    }
  }

  template <bool kGrads>
  VTADL_HOST_INLINE void compare_column(int64_t i, int64_t j, Vector<T> exists,
                                        const ssim::Pivots<T>& pivots,
                                        Vector<T>& index, Vector<T>& windows) {
    Vector<T> means[ssim::kStatistics], inverse = broadcast<Vector<T>>(1);
    Vector<T> counted = exists;
    for (int s = 0; s < ssim::kStatistics; ++s) {
      means[s] = load<T>(&scratch_->means[s][j][i]);
    }
    if constexpr (kMasked) {
      const auto weight = load<T>(&scratch_->means[kWeight][j][i]);
      counted = select(weight < T(ssim::kLeastWeight), Vector<T>{}, counted);
      inverse = T(1) / select(counted == 0, inverse, weight);
      for (auto& mean : means) mean *= inverse;
    }
    const auto result = ssim::similarity(means, constants_, pivots);
    const auto value = select(counted == 0, Vector<T>{}, result.value);
    if (forward_ && forward_->map) store<T>(&scratch_->values[j][i], value);
    index += value;
    windows += counted;
    if constexpr (!kGrads) return;
    const auto upstream = load<T>(&scratch_->upstream[j][i]) * inverse;
    for (int s = 0; s < ssim::kDerivatives; ++s) {
      store<T>(&scratch_->grads[s][halo_columns_ + j][i],
               select(counted == 0, Vector<T>{}, upstream * result.grad[s]));
    }
  }

  // Reads the upstream gradients of the index, as [column][row].
  void read_upstream() {
    if (!backward_->grad_of_map) {
      std::fill_n(scratch_->upstream[0], kTileWidth * kTileHeight,
                  upstream_of(SsimSums::kIndex));
      return;
    }
    const T* from = static_cast<const T*>(backward_->grad) + map_offset();
    for (int64_t i = 0; i < window_rows_; ++i) {
      std::copy_n(from + i * p_.map_width(), window_columns_,
                  scratch_->rows[i]);
    }
    transpose(scratch_->rows[0], kReadWidth, kTileHeight, kTileWidth,
              scratch_->upstream[0], kTileHeight);
  }

  // The upstream gradient of one of the plane's sums.
  T upstream_of(int sum) const {
    if (backward_->grad_of_map) return 0;
    if (!backward_->grad) return static_cast<T>(backward_->constant_grad[sum]);
    return static_cast<const T*>(
        backward_->grad)[at_.plane * SsimSums::kCount + sum];
  }

  int64_t map_offset() const {
    return (at_.plane * p_.map_height() + at_.top) * p_.map_width() + at_.left;
  }

  // Takes over the derivatives of the tile to the left whose windows touch
  // pixels of this one.
  void move_column_grads() {
    const T* from[ssim::kDerivatives];
    T* to[ssim::kDerivatives];
    for (int s = 0; s < ssim::kDerivatives; ++s) {
      from[s] = scratch_->grads[s][kTileWidth];
      to[s] = scratch_->grads[s][0];
    }
    move_grads(tile_column_ > 0, from, column_pivots_,
               halo_columns_ * kTileHeight, to);
    column_pivots_ = pixels_->pivots();
    for (auto& grad : scratch_->grads) {
      std::fill_n(grad[halo_columns_], kTileWidth * kTileHeight, T(0));
    }
  }

  // Takes over the derivatives of the tiles above whose windows touch pixels of
  // this one.
  void move_row_grads() {
    const Carried<T>& carried = carried_[tile_column_];
    const T* from[ssim::kDerivatives];
    T* to[ssim::kDerivatives];
    for (int s = 0; s < ssim::kDerivatives; ++s) {
      from[s] = carried.spread[s][0];
      to[s] = scratch_->spread[s][0];
    }
    move_grads(!is_first_row_, from, carried.pivots, halo_rows_ * kTileWidth,
               to);
  }

  // Copies derivatives of a neighbour, if there is one, and changes them to
  // this tile's pivots.
  void move_grads(bool has_neighbour,
                  const T* const (&from)[ssim::kDerivatives],
                  ssim::Pivots<T> pivots, int64_t count,
                  T* const (&to)[ssim::kDerivatives]) const {
    if (!has_neighbour) {
      for (T* grads : to) std::fill_n(grads, count, T(0));
      return;
    }
    const T x = pixels_->pivots().x - pivots.x;
    const T difference = pixels_->pivots().difference - pivots.difference;
    for (int64_t j = 0; j < count; j += kLanes<T>) {
      const auto squares = load<T>(from[ssim::kBySquares] + j);
      const auto squared_difference =
          load<T>(from[ssim::kBySquaredDifference] + j);
      store<T>(to[ssim::kByX] + j,
               ssim::pixel_grad(load<T>(from[ssim::kByX] + j), squares,
                                squared_difference, x, difference));
      store<T>(
          to[ssim::kByY] + j,
          ssim::pixel_grad(load<T>(from[ssim::kByY] + j), squares,
                           squared_difference, x - difference, -difference));
      store<T>(to[ssim::kBySquares] + j, squares);
      store<T>(to[ssim::kBySquaredDifference] + j, squared_difference);
    }
  }

  // Sums the derivatives over the windows that hold each pixel.
  void spread_grads() {
    move_row_grads();
    for (int s = 0; s < ssim::kDerivatives; ++s) {
      if (!is_needed(s)) continue;
      for (int64_t i = 0; i < kTileHeight; i += kLanes<T>) {
        blur<kTaps>(window_.horizontal, scratch_->grads[s][0] + i, kTileHeight,
                    kTileWidth, scratch_->columns[0] + i, kTileHeight);
      }
      transpose(scratch_->columns[0], kTileHeight, kTileWidth, kTileHeight,
                scratch_->spread[s][halo_rows_], kTileWidth);
      for (int64_t j = 0; j < kTileWidth; j += kLanes<T>) {
        blur<kTaps>(window_.vertical, scratch_->spread[s][0] + j, kTileWidth,
                    kTileHeight, scratch_->by[s][0] + j, kTileWidth);
      }
      std::copy_n(scratch_->spread[s][kTileHeight], halo_rows_ * kTileWidth,
                  carried_[tile_column_].spread[s][0]);
    }
    carried_[tile_column_].pivots = pixels_->pivots();
  }

  bool is_needed(int derivative) const {
    if (derivative == ssim::kByX) return backward_->grad_x;
    if (derivative == ssim::kByY) return backward_->grad_y;
    return true;
  }

  void write_results() const {
    if (forward_->sums) {
      T* to = static_cast<T*>(forward_->sums) +
              (at_.plane * tiling_.parts() + at_.part) * SsimSums::kCount;
      std::copy_n(sums_, SsimSums::kCount, to);
    }
    if (!forward_->map || window_columns_ == 0) return;
    transpose(scratch_->values[0], kTileHeight, kTileWidth, kTileHeight,
              scratch_->rows[0], kReadWidth);
    T* to = static_cast<T*>(forward_->map) + map_offset();
    for (int64_t i = 0; i < window_rows_; ++i) {
      std::copy_n(scratch_->rows[i], window_columns_, to + i * p_.map_width());
    }
  }

  void write_grads() {
    if constexpr (!ssim::kHasGrads<Scalar>) return;
    if (backward_->grad_x) {
      write_grad<ssim::kByX>(backward_->grad_x, backward_->grad_x_strides);
    }
    if (backward_->grad_y) {
      write_grad<ssim::kByY>(backward_->grad_y, backward_->grad_y_strides);
    }
  }

  template <int kBy>
  void write_grad(void* grad, const ImageStrides& strides) {
    const int64_t top = at_.top - p_.border_rows;
    const int64_t left = at_.left - p_.border_columns;
    const int64_t first = std::max<int64_t>(0, -left);
    const int64_t count = within(p_.width - left, kTileWidth) - first;
    Scalar* plane =
        static_cast<Scalar*>(grad) + p_.plane_offset(strides, at_.plane);
    for (int64_t i = 0; i < kTileHeight; ++i) {
      if (top + i < 0 || top + i >= p_.height || count <= 0) continue;
      for (int64_t j = 0; j < kTileWidth; j += kLanes<T>) {
        store<T>(&scratch_->rows[i][j], grad_of<kBy>(i, j));
      }
      write_row(
          scratch_->rows[i] + first, count,
          plane + (top + i) * strides.row + (left + first) * strides.column,
          strides.column);
    }
  }

  template <int kBy>
  VTADL_HOST_INLINE Vector<T> grad_of(int64_t i, int64_t j) const {
    constexpr bool kIsX = kBy == ssim::kByX;
    const auto x = load<T>(pixels_->row(ssim::kMean, i) + j);
    const auto d = load<T>(pixels_->row(ssim::kMeanDifference, i) + j);
    const auto& by = scratch_->by;
    auto grad = ssim::pixel_grad(load<T>(&by[kBy][i][j]),
                                 load<T>(&by[ssim::kBySquares][i][j]),
                                 load<T>(&by[ssim::kBySquaredDifference][i][j]),
                                 kIsX ? x : x - d, kIsX ? d : -d) *
                pixels_->inverse_range();
    if constexpr (kMasked) {
      const auto valid = load<T>(pixels_->row(kWeight, i) + j);
      grad = select(valid == 0, Vector<T>{}, grad);
    }
    if (!errors_) return grad;
    const auto raw = load<T>(pixels_->differences(i) + j);
    const auto difference = kIsX ? raw : -raw;
    const Vector<T> absolute =
        broadcast<Vector<T>>(upstream_of(SsimSums::kAbsoluteErrors));
    return grad + T(2) * upstream_of(SsimSums::kSquaredErrors) * difference +
           select(difference > 0, absolute,
                  select(difference < 0, -absolute, Vector<T>{}));
  }

  static void write_row(const T* from, int64_t count, Scalar* to,
                        int64_t stride) {
    if (stride == 1) {
      for_each_vector<T>(count, [&](int64_t j, int some) {
        store<T>(to + j, load<T>(from + j, some), some);
      });
    } else {
      for (int64_t j = 0; j < count; ++j) {
        to[j * stride] = static_cast<Scalar>(from[j]);
      }
    }
  }

  void sum_errors() {
    pixels_->read_differences(p_, at_);
    Vector<T> squared{}, absolute{};
    for (int64_t i = 0; i < kTileHeight; ++i) {
      for (int64_t j = 0; j < kTileWidth; j += kLanes<T>) {
        const auto difference = load<T>(pixels_->differences(i) + j);
        squared += difference * difference;
        absolute += select(difference < 0, -difference, difference);
      }
    }
    sums_[SsimSums::kSquaredErrors] = sum<T>(squared);
    sums_[SsimSums::kAbsoluteErrors] = sum<T>(absolute);
  }

  const SsimProblem& p_;
  const ssim::Tiling tiling_;
  const SsimForward* const forward_;
  const SsimBackward* const backward_;
  const ssim::Window<T> window_;
  const ssim::Constants<T> constants_;
  const int64_t halo_rows_, halo_columns_;
  const bool errors_;
  const Scratch<TilePixels<Scalar, kMasked>> pixels_;
  const Scratch<PassScratch<T, TilePixels<Scalar, kMasked>::kTerms>> scratch_;
  const Scratch<Carried<T>> carried_;

  // The tile at hand.
  ssim::Tile at_;
  int64_t tile_column_, window_rows_, window_columns_;
  bool is_first_row_, is_own_row_;
  T sums_[SsimSums::kCount];
  ssim::Pivots<T> column_pivots_;  // of the derivatives in grads
};

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
