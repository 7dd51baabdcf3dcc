// The emulator draws the order in which threads run from a seed, and a result
// that depends on it is a missing barrier: every kernel, under several seeds.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <functional>

#include "check.h"
#include "common/cpu_dispatch.h"
#include "gmm/gmm.h"
#include "ssim/ssim.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(GmmCpuKernels, gmm_cpu_kernels)
VTADL_CPU_KERNEL_TABLE(SsimCpuKernels, ssim_cpu_kernels)

namespace {

using Results = std::vector<std::vector<float>>;

void expect_same_bits(const char* name, const std::function<Results()>& run) {
  Results first;
  for (unsigned seed = 0; seed < 8; ++seed) {
    cuda_emulator::set_seed(seed);
    const Results results = run();
    if (seed == 0) first = results;
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (std::memcmp(results[i].data(), first[i].data(),
                      first[i].size() * sizeof(float)) != 0) {
        std::fprintf(stderr, "%s: result %zu depends on seed %u\n", name, i,
                     seed);
        std::exit(1);
      }
    }
  }
}

Results run_gmm(bool shared) {
  const std::int64_t samples = 70, components = 5, features = 35;
  Random random(3);
  const std::int64_t rows = (shared ? 1 : samples) * components;
  const auto x = convert<float>(random.normal(samples * features, 0, 1));
  const auto logits = convert<float>(random.normal(rows, 0, 1));
  const auto mu = convert<float>(random.normal(rows * features, 0, 1));
  const auto scale = convert<float>(random.normal(rows, 0, 0.1));
  const auto grad = convert<float>(random.normal(samples, 0, 1));
  RowMap own, parameter;
  own.add_outer(samples, false);
  parameter.add_outer(samples, shared);
  const GmmProblem p{DType::kFloat32,
                     ScaleParam::kLogStd,
                     Mixture::kLogSumExp,
                     0.0,
                     samples,
                     components,
                     features,
                     features,
                     1,
                     own,
                     parameter,
                     parameter,
                     parameter,
                     x.data(),
                     logits.data(),
                     mu.data(),
                     scale.data()};
  Results r;
  for (const std::int64_t count :
       {samples, samples * components, samples * components, samples * features,
        samples * components, rows * features, rows}) {
    r.push_back(unwritten<float>(count));
  }
  gmm_cpu_kernels_in_use().forward({p, r[0].data(), r[1].data()});
  gmm_cpu_kernels_in_use().backward({p, grad.data(), r[0].data(), r[1].data(),
                                     r[2].data(), r[3].data(), r[4].data(),
                                     r[5].data(), r[6].data()});
  return r;
}

Results run_ssim() {
  SsimProblem p{};
  p.dtype = DType::kFloat32;
  p.planes = 2;
  p.height = 20;
  p.width = 70;
  p.taps = 11;
  for (int t = 0; t < p.taps; ++t) p.window[t] = 1.0 / p.taps;
  p.c1 = 1e-4;
  p.c2 = 9e-4;
  const std::int64_t pixels = p.planes * p.height * p.width;
  const std::int64_t windows = p.planes * p.map_height() * p.map_width();
  Random random(4);
  const auto x = convert<float>(random.normal(pixels, 0.5, 0.2));
  const auto y = convert<float>(random.normal(pixels, 0.5, 0.2));
  const auto grad = convert<float>(random.normal(windows, 0, 1));
  p.x = x.data();
  p.y = y.data();
  Results r;
  for (const std::int64_t count :
       {windows, p.planes * p.tile_rows() * p.tile_columns(), pixels, pixels}) {
    r.push_back(unwritten<float>(count));
  }
  ssim_cpu_kernels_in_use().forward({p, r[0].data(), r[1].data()});
  ssim_cpu_kernels_in_use().backward(
      {p, grad.data(), true, r[2].data(), r[3].data()});
  return r;
}

}  // namespace
}  // namespace vtadl

int main() {
  vtadl::expect_same_bits("gmm", [] { return vtadl::run_gmm(false); });
  vtadl::expect_same_bits("gmm shared", [] { return vtadl::run_gmm(true); });
  vtadl::expect_same_bits("ssim", [] { return vtadl::run_ssim(); });
  std::puts("no kernel depends on the order of its threads");
}
