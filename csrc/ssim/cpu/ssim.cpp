// SSIM on the CPU, in tiles that stay in the cache. Compiled once per
// instruction set.
#include "common/parallel.h"
#include "ssim/cpu/pass.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

int64_t parts(const SsimProblem& p) { return tiles_down(p) * tiles_across(p); }

// Into how many bands each plane is cut. The shape alone decides, so that the
// number of threads does not change the result.
int64_t bands_of_a_plane(const SsimProblem& p, bool backward) {
  constexpr int64_t kBands = 16;  // of all planes
  // A band of gradients repeats the work of the rows above it.
  const int64_t shortest = backward ? 4 : 1;
  return std::clamp<int64_t>(divide_up(kBands, p.planes()), 1,
                             std::max<int64_t>(1, tiles_down(p) / shortest));
}

template <int kTaps, typename Scalar, bool kMasked>
void run(const SsimProblem& p, const SsimForward* forward,
         const SsimBackward* backward) {
  const int64_t bands = bands_of_a_plane(p, backward);
  const int64_t pixels = p.padded_height() * p.padded_width();
  parallel_for(
      p.planes() * bands,
      std::max<int64_t>(1, kGrain / std::max<int64_t>(1, pixels / bands)),
      [&](int64_t begin, int64_t end) {
        Pass<Scalar, kTaps, kMasked> pass(p, forward, backward);
        for (int64_t i = begin; i < end; ++i) {
          const int64_t band = i % bands, rows = tiles_down(p);
          pass.run({i / bands, band * rows / bands, (band + 1) * rows / bands});
        }
      });
}

// The usual window is unrolled.
template <typename Scalar, bool kMasked>
void run(const SsimProblem& p, const SsimForward* forward,
         const SsimBackward* backward) {
  if (p.taps == 11) return run<11, Scalar, kMasked>(p, forward, backward);
  run<0, Scalar, kMasked>(p, forward, backward);
}

// Either of forward and backward may be null.
void run(const SsimProblem& p, const SsimForward* forward,
         const SsimBackward* backward) {
  if (p.planes() == 0) return;
  dispatch(p.dtype, [&](auto zero) {
    using Scalar = decltype(zero);
    if (p.mask != nullptr) return run<Scalar, true>(p, forward, backward);
    run<Scalar, false>(p, forward, backward);
  });
}

void forward(const SsimForward& p) { run(p, &p, nullptr); }

void backward(const SsimBackward& p) { run(p, nullptr, &p); }

void forward_backward(const SsimForwardBackward& p) {
  run(p.forward, &p.forward, &p.backward);
}

void total(const SsimTotal& p) {
  dispatch(p.dtype, [&](auto zero) {
    using T = Accumulate<decltype(zero)>;
    const T* of_parts = static_cast<const T*>(p.of_parts);
    double total = 0;
    for (int s = 0; s < SsimSums::kCount; ++s) {
      double sum = 0;
      for (int64_t part = 0; part < p.parts; ++part) {
        sum += of_parts[part * SsimSums::kCount + s];
      }
      static_cast<T*>(p.sums)[s] = static_cast<T>(sum);
      if (p.weights[s] != 0) total += p.weights[s] * sum;
    }
    *static_cast<T*>(p.total) = static_cast<T>(total);
  });
}

}  // namespace

extern const SsimCpuKernels ssim_cpu_kernels = {&parts, &forward, &backward,
                                                &forward_backward, &total};

}  // namespace vtadl::VTADL_CPU_CAPABILITY
