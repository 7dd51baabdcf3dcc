// scale_ on the GPU.
#include <algorithm>

#include "common/integers.h"
#include "common/launch.h"
#include "scale/scale.h"

namespace vtadl {
namespace {

using std::int64_t;

constexpr int kBlock = 256;
constexpr int64_t kResidentBlocks = 8;  // of a multiprocessor

// Moves 2 · count elements, or none where the factor is 1: nothing but to start
// and end then, which takes longer the more blocks there are. Full occupancy.
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
  const int64_t blocks =
      std::min(divide_up(p.count, kBlock), kResidentBlocks * multiprocessors());
  dispatch(p.dtype, [&](auto zero) {
    launch("scale_kernel", scale_kernel<decltype(zero)>,
           {static_cast<unsigned>(blocks), kBlock}, stream, p);
  });
}

}  // namespace vtadl
