// One way down a band of an image, tile by tile: from pixels to the index of
// each window, and on to the gradients of the pixels.
#pragma once

#include <algorithm>

#include "common/memory.h"
#include "ssim/cpu/blur.h"
#include "ssim/cpu/tile.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// The rows of tiles [begin, end) of a plane.
struct Band {
  int64_t plane, begin, end;
};

VTADL_HOST_INLINE int64_t tiles_down(const SsimProblem& p) {
  return divide_up(p.padded_height(), kTileRows);
}
VTADL_HOST_INLINE int64_t tiles_across(const SsimProblem& p) {
  return divide_up(p.padded_width(), kTileColumns);
}

// Room for one row of tiles. Arrays [column][row] hold rows side by side, so
// that the same code sums along either axis.
template <typename T, int kPlanes>
struct PassRoom {
  alignas(64) T rows[kTileRows][kReadColumns];
  alignas(64) T columns[kReadColumns][kTileRows];
  alignas(64) T means[kPlanes][kTileColumns][kTileRows];
  alignas(64) T values[kTileColumns][kTileRows];
  alignas(64) T upstream[kTileColumns][kTileRows];
  // Derivatives by the statistics of windows, with those of the tiles to the
  // left and above that touch the same pixels.
  alignas(64) T grads[ssim::kDerivatives][kReadColumns][kTileRows];
  alignas(64) T spread[ssim::kDerivatives][kReadRows][kTileColumns];
  alignas(64) T by[ssim::kDerivatives][kTileRows][kTileColumns];
};

// What the next row of tiles needs of this one, for each tile.
template <typename T>
struct Carried {
  ssim::Pivots<T> pivots;
  alignas(64) T spread[ssim::kDerivatives][kMaxHalo][kTileColumns];
};

// Either of forward and backward may be null.
template <typename Scalar, int kTaps, bool kMasked>
class Pass {
 public:
  using T = Accumulate<Scalar>;

  Pass(const SsimProblem& p, const SsimForward* forward,
       const SsimBackward* backward)
      : p_(p),
        forward_(forward),
        backward_(backward),
        window_(p),
        halo_(p.taps - 1),
        errors_((forward && forward->errors) || (backward && backward->errors)),
        tile_(1),
        room_(1),
        carried_(backward ? tiles_across(p) : 0) {}

  void run(const Band& band) {
    // The band's first pixels lie in windows of the rows of tiles above.
    const int64_t above = backward_ ? divide_up(halo_, kTileRows) : 0;
    const int64_t first = std::max<int64_t>(0, band.begin - above);
    for (int64_t i = first; i < band.end; ++i) {
      is_first_row_ = i == first;
      is_own_row_ = i >= band.begin;
      for (int64_t j = 0; j < tiles_across(p_); ++j) {
        prefetch_after(band.plane, i, j);
        run_tile(band.plane, i, j);
      }
    }
  }

 private:
  VTADL_HOST_INLINE void prefetch_after(int64_t plane, int64_t tile_row,
                                        int64_t tile_column) {
    const bool wraps = tile_column + 1 == tiles_across(p_);
    Tile<Scalar, kMasked>::prefetch(
        p_, {plane, (tile_row + wraps) * kTileRows,
             wraps ? 0 : (tile_column + 1) * kTileColumns});
  }

  void run_tile(int64_t plane, int64_t tile_row, int64_t tile_column) {
    at_ = {plane, tile_row * kTileRows, tile_column * kTileColumns};
    tile_column_ = tile_column;
    window_rows_ = within(p_.map_height() - at_.top, kTileRows);
    window_columns_ = within(p_.map_width() - at_.left, kTileColumns);
    std::fill_n(sums_, SsimSums::kCount, T(0));
    const bool has_windows = window_rows_ > 0 && window_columns_ > 0;
    if (has_windows || backward_) tile_->read(p_, at_);
    if (backward_) move_column_grads();
    if (has_windows) {
      find_means();
      backward_ ? compare<true>() : compare<false>();
    }
    if (is_own_row_ && errors_) sum_errors();
    if (is_own_row_ && forward_) write_results(tile_row, tile_column);
    if (backward_) {
      spread_grads();
      if (is_own_row_) write_grads();
    }
  }

  static int64_t within(int64_t count, int64_t most) {
    return std::clamp<int64_t>(count, 0, most);
  }

  // Means of the statistics, [column][row].
  void find_means() {
    using Tile = Tile<Scalar, kMasked>;
    const int64_t columns = Tile::columns_read(p_);
    for (int s = 0; s < Tile::kPlanes; ++s) {
      for (int64_t j = 0; j < columns; j += kLanes<T>) {
        blur<kTaps>(window_, tile_->row(s, 0) + j, kReadColumns, kTileRows,
                    room_->rows[0] + j, kReadColumns);
      }
      transpose(room_->rows[0], kReadColumns, kTileRows, columns,
                room_->columns[0], kTileRows);
      for (int64_t i = 0; i < kTileRows; i += kLanes<T>) {
        blur<kTaps>(window_, room_->columns[0] + i, kTileRows, kTileColumns,
                    room_->means[s][0] + i, kTileRows);
      }
    }
  }

  // The index of each window, and its derivatives by the statistics times the
  // upstream gradient.
  template <bool kGrads>
  void compare() {
    const ssim::Constants<T> constants{static_cast<T>(p_.k1 * p_.k1),
                                       static_cast<T>(p_.k2 * p_.k2),
                                       p_.luminance, tile_->pivots()};
    if constexpr (kGrads) read_upstream();
    for (int64_t i = 0; i < window_rows_; i += kLanes<T>) {
      const int rows = static_cast<int>(within(window_rows_ - i, kLanes<T>));
      const auto exists = keep<T>(broadcast<Vector<T>>(1), rows);
      Vector<T> index{}, windows{};
      for (int64_t j = 0; j < window_columns_; ++j) {
        compare_column<kGrads>(i, j, exists, constants, index, windows);
      }
      sums_[SsimSums::kIndex] += sum<T>(index);
      sums_[SsimSums::kWindows] += sum<T>(windows);
    }
  }

  template <bool kGrads>
  VTADL_HOST_INLINE void compare_column(int64_t i, int64_t j, Vector<T> exists,
                                        const ssim::Constants<T>& constants,
                                        Vector<T>& index, Vector<T>& windows) {
    Vector<T> means[ssim::kStatistics], inverse = broadcast<Vector<T>>(1);
    Vector<T> counted = exists;
    for (int s = 0; s < ssim::kStatistics; ++s) {
      means[s] = load<T>(&room_->means[s][j][i]);
    }
    if constexpr (kMasked) {
      const auto weight = load<T>(&room_->means[kWeight][j][i]);
      counted = select(weight < T(ssim::kLeastWeight), Vector<T>{}, counted);
      inverse = T(1) / select(counted == 0, inverse, weight);
      for (auto& mean : means) mean *= inverse;
    }
    const auto result = ssim::similarity(means, constants);
    const auto value = select(counted == 0, Vector<T>{}, result.value);
    if (forward_ && forward_->map) store<T>(&room_->values[j][i], value);
    index += value;
    windows += counted;
    if constexpr (!kGrads) return;
    const auto upstream = load<T>(&room_->upstream[j][i]) * inverse;
    for (int s = 0; s < ssim::kDerivatives; ++s) {
      store<T>(&room_->grads[s][halo_ + j][i],
               select(counted == 0, Vector<T>{}, upstream * result.grad[s]));
    }
  }

  // Upstream gradients of the index, [column][row].
  void read_upstream() {
    if (!backward_->grad_of_map) {
      std::fill_n(room_->upstream[0], kTileColumns * kTileRows,
                  upstream_of(SsimSums::kIndex));
      return;
    }
    const T* from = static_cast<const T*>(backward_->grad) + map_offset();
    for (int64_t i = 0; i < window_rows_; ++i) {
      std::copy_n(from + i * p_.map_width(), window_columns_, room_->rows[i]);
    }
    transpose(room_->rows[0], kReadColumns, kTileRows, kTileColumns,
              room_->upstream[0], kTileRows);
  }

  // Upstream gradient of one of the plane's sums.
  T upstream_of(int sum) const {
    if (backward_->grad_of_map) return 0;
    if (!backward_->grad) return static_cast<T>(backward_->constant_grad[sum]);
    return static_cast<const T*>(
        backward_->grad)[at_.plane * SsimSums::kCount + sum];
  }

  int64_t map_offset() const {
    return (at_.plane * p_.map_height() + at_.top) * p_.map_width() + at_.left;
  }

  // Those of the tile to the left touch pixels of this one.
  void move_column_grads() {
    const T* from[ssim::kDerivatives];
    T* to[ssim::kDerivatives];
    for (int s = 0; s < ssim::kDerivatives; ++s) {
      from[s] = room_->grads[s][kTileColumns];
      to[s] = room_->grads[s][0];
    }
    move_grads(tile_column_ > 0, from, column_pivots_, halo_ * kTileRows, to);
    column_pivots_ = tile_->pivots();
    for (auto& grad : room_->grads) {
      std::fill_n(grad[halo_], kTileColumns * kTileRows, T(0));
    }
  }

  // Those of the tiles above touch pixels of this one.
  void move_row_grads() {
    const Carried<T>& carried = carried_[tile_column_];
    const T* from[ssim::kDerivatives];
    T* to[ssim::kDerivatives];
    for (int s = 0; s < ssim::kDerivatives; ++s) {
      from[s] = carried.spread[s][0];
      to[s] = room_->spread[s][0];
    }
    move_grads(!is_first_row_, from, carried.pivots, halo_ * kTileColumns, to);
  }

  // Derivatives of a neighbour, if there is one, now with this tile's pivots.
  void move_grads(bool has_neighbour,
                  const T* const (&from)[ssim::kDerivatives],
                  ssim::Pivots<T> pivots, int64_t count,
                  T* const (&to)[ssim::kDerivatives]) const {
    if (!has_neighbour) {
      for (T* grads : to) std::fill_n(grads, count, T(0));
      return;
    }
    const T x = tile_->pivots().x - pivots.x;
    const T difference = tile_->pivots().difference - pivots.difference;
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

  // Sums of the derivatives over the windows that hold each pixel.
  void spread_grads() {
    move_row_grads();
    for (int s = 0; s < ssim::kDerivatives; ++s) {
      if (!is_needed(s)) continue;
      for (int64_t i = 0; i < kTileRows; i += kLanes<T>) {
        blur<kTaps>(window_, room_->grads[s][0] + i, kTileRows, kTileColumns,
                    room_->columns[0] + i, kTileRows);
      }
      transpose(room_->columns[0], kTileRows, kTileColumns, kTileRows,
                room_->spread[s][halo_], kTileColumns);
      for (int64_t j = 0; j < kTileColumns; j += kLanes<T>) {
        blur<kTaps>(window_, room_->spread[s][0] + j, kTileColumns, kTileRows,
                    room_->by[s][0] + j, kTileColumns);
      }
      std::copy_n(room_->spread[s][kTileRows], halo_ * kTileColumns,
                  carried_[tile_column_].spread[s][0]);
    }
    carried_[tile_column_].pivots = tile_->pivots();
  }

  bool is_needed(int derivative) const {
    if (derivative == ssim::kByX) return backward_->grad_x;
    if (derivative == ssim::kByY) return backward_->grad_y;
    return true;
  }

  void write_results(int64_t tile_row, int64_t tile_column) const {
    if (forward_->sums) {
      const int64_t parts = tiles_down(p_) * tiles_across(p_);
      const int64_t part = tile_row * tiles_across(p_) + tile_column;
      T* to = static_cast<T*>(forward_->sums) +
              (at_.plane * parts + part) * SsimSums::kCount;
      std::copy_n(sums_, SsimSums::kCount, to);
    }
    if (!forward_->map || window_columns_ == 0) return;
    transpose(room_->values[0], kTileRows, kTileColumns, kTileRows,
              room_->rows[0], kReadColumns);
    T* to = static_cast<T*>(forward_->map) + map_offset();
    for (int64_t i = 0; i < window_rows_; ++i) {
      std::copy_n(room_->rows[i], window_columns_, to + i * p_.map_width());
    }
  }

  void write_grads() {
    if (backward_->grad_x) {
      write_grad<ssim::kByX>(backward_->grad_x, backward_->grad_x_strides);
    }
    if (backward_->grad_y) {
      write_grad<ssim::kByY>(backward_->grad_y, backward_->grad_y_strides);
    }
  }

  template <int kBy>
  void write_grad(void* grad, const ImageStrides& strides) {
    const int64_t top = at_.top - p_.border, left = at_.left - p_.border;
    const int64_t first = std::max<int64_t>(0, -left);
    const int64_t count = within(p_.width - left, kTileColumns) - first;
    Scalar* plane =
        static_cast<Scalar*>(grad) + p_.plane_offset(strides, at_.plane);
    for (int64_t i = 0; i < kTileRows; ++i) {
      if (top + i < 0 || top + i >= p_.height || count <= 0) continue;
      for (int64_t j = 0; j < kTileColumns; j += kLanes<T>) {
        store<T>(&room_->rows[i][j], grad_of<kBy>(i, j));
      }
      write_row(
          room_->rows[i] + first, count,
          plane + (top + i) * strides.row + (left + first) * strides.column,
          strides.column);
    }
  }

  template <int kBy>
  VTADL_HOST_INLINE Vector<T> grad_of(int64_t i, int64_t j) const {
    constexpr bool kIsX = kBy == ssim::kByX;
    const auto x = load<T>(tile_->row(ssim::kMean, i) + j);
    const auto d = load<T>(tile_->row(ssim::kMeanDifference, i) + j);
    const auto& by = room_->by;
    auto grad = ssim::pixel_grad(load<T>(&by[kBy][i][j]),
                                 load<T>(&by[ssim::kBySquares][i][j]),
                                 load<T>(&by[ssim::kBySquaredDifference][i][j]),
                                 kIsX ? x : x - d, kIsX ? d : -d) *
                tile_->unit();
    if constexpr (kMasked) {
      const auto valid = load<T>(tile_->row(kWeight, i) + j);
      grad = select(valid == 0, Vector<T>{}, grad);
    }
    if (!errors_) return grad;
    const auto raw = load<T>(tile_->differences(i) + j);
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
    tile_->read_differences(p_, at_);
    Vector<T> squared{}, absolute{};
    for (int64_t i = 0; i < kTileRows; ++i) {
      for (int64_t j = 0; j < kTileColumns; j += kLanes<T>) {
        const auto difference = load<T>(tile_->differences(i) + j);
        squared += difference * difference;
        absolute += select(difference < 0, -difference, difference);
      }
    }
    sums_[SsimSums::kSquaredErrors] = sum<T>(squared);
    sums_[SsimSums::kAbsoluteErrors] = sum<T>(absolute);
  }

  const SsimProblem& p_;
  const SsimForward* const forward_;
  const SsimBackward* const backward_;
  const ssim::Window<T> window_;
  const int64_t halo_;
  const bool errors_;
  const Scratch<Tile<Scalar, kMasked>> tile_;
  const Scratch<PassRoom<T, Tile<Scalar, kMasked>::kPlanes>> room_;
  const Scratch<Carried<T>> carried_;

  // Of the tile at hand.
  TilePlace at_;
  int64_t tile_column_, window_rows_, window_columns_;
  bool is_first_row_, is_own_row_;
  T sums_[SsimSums::kCount];
  ssim::Pivots<T> column_pivots_;  // of the derivatives in room_->grads
};

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
