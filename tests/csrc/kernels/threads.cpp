// parallel_for() without PyTorch, on two threads, whose races a sanitizer sees.
#include <thread>

#include "common/parallel.h"

namespace vtadl {

void parallel_ranges(std::int64_t count, std::int64_t, RangeFunction function,
                     void* context) {
  const std::int64_t middle = count / 2;
  std::thread other([=] { function(0, middle, context); });
  function(middle, count, context);
  other.join();
}

}  // namespace vtadl
