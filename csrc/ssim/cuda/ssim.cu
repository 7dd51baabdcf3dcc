// The entry points of SSIM on the GPU; plan.h decides what serves a problem.
#include <stdexcept>

#include "ssim/cuda/plan.h"
#include "ssim/cuda/strip_backward.h"
#include "ssim/cuda/strip_forward.h"
#include "ssim/cuda/tile_backward.h"
#include "ssim/cuda/tile_forward.h"
#include "ssim/cuda/total.h"
#include "ssim/pixels.h"

namespace vtadl {
namespace {

using std::int64_t;

// Calls strips(zero) or tiles(zero) with a zero of the pixels' type.
template <typename Strips, typename Tiles>
void run(ssim::Regime regime, const SsimProblem& p, const Strips& strips,
         const Tiles& tiles) {
  switch (regime) {
    case ssim::Regime::kNothing:
      return;
    case ssim::Regime::kStrips:
      return ssim::dispatch_pixels(p, [&](auto zero) {
        if constexpr (sizeof zero < sizeof(double)) {
          strips(zero);
        } else {
          throw std::logic_error("the plan chose strips for doubles");
        }
      });
    case ssim::Regime::kTiles:
      return ssim::dispatch_pixels(p, tiles);
  }
}

template <typename Scalar>
void strip_grads(const SsimBackward& p, const ssim::SumsOfTiles& sums,
                 void* stream) {
  if constexpr (ssim::kHasGrads<Scalar>) {
    ssim::strip_backward<Scalar>(p, sums, stream);
  }
}

template <typename Scalar>
void tile_grads(const SsimBackward& p, void* stream) {
  if constexpr (ssim::kHasGrads<Scalar>) {
    ssim::tile_backward<Scalar>(p, stream);
  }
}

}  // namespace

int64_t ssim_parts_cuda(const SsimProblem& p) {
  return ssim::parts_of_plane(p);
}

void ssim_forward_cuda(const SsimForward& p, void* stream) {
  run(
      ssim::regime_of(p), p,
      [&](auto zero) { ssim::strip_forward<decltype(zero)>(p, stream); },
      [&](auto zero) { ssim::tile_forward<decltype(zero)>(p, stream); });
}

void ssim_backward_cuda(const SsimBackward& p, void* stream) {
  run(
      ssim::regime_of(p), p,
      [&](auto zero) { strip_grads<decltype(zero)>(p, {}, stream); },
      [&](auto zero) { tile_grads<decltype(zero)>(p, stream); });
}

void ssim_forward_backward_cuda(const SsimForwardBackward& p, void* stream) {
  if (!ssim::in_one_pass(p)) {
    ssim_forward_cuda(p.forward, stream);
    ssim_backward_cuda(p.backward, stream);
    return;
  }
  const ssim::SumsOfTiles sums{p.forward.sums, p.forward.errors,
                               ssim::parts_of_plane(p.forward)};
  run(
      ssim::Regime::kStrips, p.forward,
      [&](auto zero) { strip_grads<decltype(zero)>(p.backward, sums, stream); },
      [](auto) {});
}

void ssim_total_cuda(const SsimTotal& p, void* stream) {
  dispatch(p.dtype, [&](auto zero) {
    launch("ssim total_kernel", ssim::total_kernel<Accumulate<decltype(zero)>>,
           {1, ssim::kTotalThreads}, stream, p);
  });
}

}  // namespace vtadl
