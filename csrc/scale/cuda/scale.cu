// scale_ on the GPU.
#include <algorithm>

#include "common/integers.h"
#include "common/launch.h"
#include "scale/scale.h"

namespace vtadl {
namespace {

using std::int64_t;

// The threads of a block, and the blocks of a multiprocessor: together all
// threads that it holds. Set on 2026-11-24 and 2026-11-27; no record says on
// which machine. Half and double were not measured.
constexpr int kThreads = 256;
constexpr int64_t kResidentBlocks = 8;

// The kernel moves 2 · count elements, or none if the factor is 1. Then it only
// starts and ends, which takes longer the more blocks there are. All threads
// that a multiprocessor holds are resident.
template <typename Scalar, typename T = Accumulate<Scalar>>
__global__ void scale_kernel(ScaleProblem p) {
  const T factor = *static_cast<const T*>(p.factor);
  if (factor == 1) return;
  Scalar* values = static_cast<Scalar*>(p.values);
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < p.count;
       i += step) {
    values[i] = static_cast<Scalar>(static_cast<T>(values[i]) * factor);
  }
}

}  // namespace

void scale_cuda(const ScaleProblem& p, void* stream) {
  if (p.count == 0) return;
  const int64_t blocks = std::min(divide_up(p.count, kThreads),
                                  kResidentBlocks * multiprocessors());
  dispatch(p.dtype, [&](auto zero) {
    launch("scale_kernel", scale_kernel<decltype(zero)>,
           {static_cast<unsigned>(blocks), kThreads}, stream, p);
  });
}

}  // namespace vtadl
