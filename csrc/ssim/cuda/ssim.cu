// SSIM on the GPU.
#include "ssim/cuda/strip_backward.h"
#include "ssim/cuda/strip_forward.h"
#include "ssim/cuda/tiles.h"
#include "ssim/cuda/total.h"

namespace vtadl {
namespace {

using std::int64_t;

// Calls strips(zero) or tiles(zero) with a zero of the images' type.
template <typename Strips, typename Tiles>
void dispatch_kernels(const SsimProblem& p, const Strips& strips,
                      const Tiles& tiles) {
  dispatch(p.dtype, [&](auto zero) {
    if constexpr (sizeof zero < sizeof(double)) {
      if (ssim::fits_strips(p)) return strips(zero);
    }
    tiles(zero);
  });
}

}  // namespace

// Both kernels for strips write as many.
int64_t ssim_parts_cuda(const SsimProblem& p) {
  if (!ssim::fits_strips(p)) return ssim::tile_forward_tiling(p).parts();
  return std::max(ssim::forward_plan(p).tiling.parts(),
                  ssim::backward_plan(p).tiling.parts());
}

void ssim_forward_cuda(const SsimForward& p, void* stream) {
  if (p.planes() == 0) return;
  dispatch_kernels(
      p,
      [&](auto zero) {
        ssim::strip_forward<decltype(zero)>(p, ssim_parts_cuda(p), stream);
      },
      [&](auto zero) { ssim::tile_forward<decltype(zero)>(p, stream); });
}

void ssim_backward_cuda(const SsimBackward& p, void* stream) {
  if (p.planes() == 0 || (!p.grad_x && !p.grad_y)) return;
  dispatch_kernels(
      p,
      [&](auto zero) {
        ssim::strip_backward<decltype(zero)>(p, nullptr, false, 0, stream);
      },
      [&](auto zero) { ssim::tile_backward<decltype(zero)>(p, stream); });
}

void ssim_forward_backward_cuda(const SsimForwardBackward& p, void* stream) {
  const SsimForward& f = p.forward;
  const SsimBackward& b = p.backward;
  const bool at_once = ssim::fits_strips(f) && !f.map && (b.grad_x || b.grad_y);
  if (!at_once) {
    ssim_forward_cuda(f, stream);
    ssim_backward_cuda(b, stream);
    return;
  }
  if (f.planes() == 0) return;
  dispatch_kernels(
      f,
      [&](auto zero) {
        ssim::strip_backward<decltype(zero)>(b, f.sums, f.errors,
                                             ssim_parts_cuda(f), stream);
      },
      [](auto) {});
}

void ssim_total_cuda(const SsimTotal& p, void* stream) {
  dispatch(p.dtype, [&](auto zero) {
    launch("ssim total_kernel", ssim::total_kernel<Accumulate<decltype(zero)>>,
           {1, ssim::kTotalThreads}, stream, p);
  });
}

}  // namespace vtadl
