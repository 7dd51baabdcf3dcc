#include "common/parallel.h"

#include <torch/csrc/stable/ops.h>

namespace vtadl {

void parallel_ranges(std::int64_t count, std::int64_t grain,
                     RangeFunction function, void* context) {
  torch::stable::parallel_for(0, count, grain,
                              [=](std::int64_t begin, std::int64_t end) {
                                function(begin, end, context);
                              });
}

}  // namespace vtadl
