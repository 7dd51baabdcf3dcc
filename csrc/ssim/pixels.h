// The way from a problem to a template on the type of its pixels.
#pragma once

#include <cstdint>

#include "common/dispatch.h"
#include "ssim/ssim.h"

namespace vtadl::ssim {

// Calls body with a zero of the C++ type of the pixels.
template <typename Body>
VTADL_HOST_INLINE void dispatch_pixels(const SsimProblem& p, const Body& body) {
  if (p.bytes) return body(std::uint8_t(0));
  dispatch(p.dtype, body);
}

// Pixels of bytes have no gradients, which could not be stored.
template <typename Scalar>
constexpr bool kHasGrads = sizeof(Scalar) > 1;

}  // namespace vtadl::ssim
