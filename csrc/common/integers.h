// Arithmetic of integers, for host and device.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace vtadl {

VTADL_INLINE std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

VTADL_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}

}  // namespace vtadl
