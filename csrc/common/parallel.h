// parallel_for() for the CPU kernels, which know nothing of PyTorch.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace vtadl {

// A thread gets at least so many elements of a calculation. On two cores of an
// AMD EPYC, 2026-11-28, SSIM on two threads took, with half of it, 3 % longer
// for 1 x 1 x 96 x 96 and as long for 1 x 1 x 192 x 192; with double, as long
// for the first and 40 to 58 % longer for the second, which then had one
// thread.
constexpr std::int64_t kGrain = 32768;

using RangeFunction = void (*)(std::int64_t begin, std::int64_t end,
                               void* context);

// Splits [0, count) into ranges of at least grain items over PyTorch's threads.
void parallel_ranges(std::int64_t count, std::int64_t grain,
                     RangeFunction function, void* context);

// Calls body(begin, end) for such ranges.
template <typename Body>
VTADL_HOST_INLINE void parallel_for(std::int64_t count, std::int64_t grain,
                                    const Body& body) {
  parallel_ranges(
      count, grain,
      [](std::int64_t begin, std::int64_t end, void* context) {
        (*static_cast<const Body*>(context))(begin, end);
      },
      const_cast<Body*>(&body));
}

}  // namespace vtadl
