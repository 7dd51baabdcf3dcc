// How planes are cut into tiles, for host and device.
#pragma once

#include <cstdint>

#include "common/integers.h"

namespace vtadl::ssim {

// A rectangle of a plane, and its number among the tiles of the plane.
struct Tile {
  std::int64_t plane, part, top, left;
};

// Planes of height × width, cut into tiles of tile_height × tile_width; those
// at the bottom and on the right may be smaller.
struct Tiling {
  std::int64_t planes, height, width;
  int tile_height, tile_width;

  VTADL_INLINE std::int64_t rows() const {
    return divide_up(height, tile_height);
  }
  VTADL_INLINE std::int64_t columns() const {
    return divide_up(width, tile_width);
  }
  VTADL_INLINE std::int64_t parts() const { return rows() * columns(); }
  VTADL_INLINE std::int64_t count() const { return planes * parts(); }

  VTADL_INLINE Tile tile(std::int64_t index) const {
    const std::int64_t part = index % parts();
    return {index / parts(), part, part / columns() * tile_height,
            part % columns() * tile_width};
  }
  VTADL_INLINE int height_of(const Tile& tile) const {
    return static_cast<int>(smaller(tile_height, height - tile.top));
  }
  VTADL_INLINE int width_of(const Tile& tile) const {
    return static_cast<int>(smaller(tile_width, width - tile.left));
  }
};

}  // namespace vtadl::ssim
