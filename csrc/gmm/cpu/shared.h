// Many samples of one mixture: its parameters are activated once for all of
// them, and every block of samples adds to the same sums.
#pragma once

#include "gmm/cpu/few_features.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

// Either pass may be null.
template <typename Scalar, bool kTril>
void run_shared(const GmmProblem& p, const GmmForward* forward,
                const GmmBackward* backward) {
  using T = Accumulate<Scalar>;
  const RowMap& map = p.mu.rows;
  const Slabs slabs(p, map);
  SlabGrad<Scalar> mean(p, true, backward ? backward->grad_mu : nullptr, slabs);
  SlabGrad<Scalar> scale(p, false, backward ? backward->grad_scale : nullptr,
                         slabs);
  const bool grad_x = backward && backward->grad_x;
  const bool grads = grad_x || mean.numel() || scale.numel();
  const int64_t slab_samples = std::min(map.repeats, slabs.samples);
  parallel_for(
      slabs.units(), grain_of(slab_samples * p.components * p.features),
      [&](int64_t begin, int64_t end) {
        BlockPass<Scalar, kTril> pass(p);
        SharedMixture<Scalar> shared(p);
        SlabSums<Scalar> sums(p, mean, scale);
        for (int64_t unit = begin; unit < end; ++unit) {
          shared.begin(unit / slabs.count);
          sums.clear();
          for_each_block<T>(slabs, map, unit, [&](const SampleBlock<T>& block) {
            pass.begin(block);
            if (forward) pass.forward(*forward, block, shared);
            if (!backward) return;
            if (!forward) pass.read_forward(*backward, block);
            pass.differentiate_mixture(*backward, block);
            if (!grads) return;
            pass.clear_grad_x();
            for (int64_t k = 0; k < p.components; ++k) {
              if (!pass.has_grad(k)) continue;
              pass.add_grads(k, shared.component(k), grad_x, sums.component(k));
            }
            if (grad_x) pass.write_grad_x(*backward, block);
          });
          mean.write(unit, sums.mean());
          scale.write(unit, sums.scale());
        }
      });
  mean.finish();
  scale.finish();
}

}  // namespace
}  // namespace vtadl::VTADL_CPU_CAPABILITY
