// The emulator draws the order in which threads run from a seed. A result that
// depends on the seed reveals a missing barrier, so every kernel runs under
// several seeds.
#include <cuda_runtime.h>

#include <algorithm>
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

struct GmmCase {
  const char* name;
  std::int64_t samples, components, features, rows;
  ScaleParam scale_param;
};

// Runs both passes one after the other, and at once, where log N_k is kept or
// not.
Results run_gmm(const GmmCase& c) {
  const bool is_tril = c.scale_param == ScaleParam::kTril;
  const std::int64_t parameters = c.rows * c.components;
  const std::int64_t mu_count = parameters * c.features;
  const std::int64_t scale_count = is_tril ? mu_count * c.features : mu_count;
  Random random(3);
  const auto x = convert<float>(random.normal(c.samples * c.features, 0, 1));
  const auto logits = convert<float>(random.normal(parameters, 0, 1));
  const auto mu = convert<float>(random.normal(mu_count, 0, 1));
  const auto scale = convert<float>(random.normal(scale_count, 1, 0.1));
  const auto grad = convert<float>(random.normal(c.samples, 0, 1));
  RowMap own, shared;
  own.add_outer(c.samples, false);
  shared.add_outer(c.rows, false);
  shared.add_outer(c.samples / c.rows, c.rows != c.samples);
  const GmmProblem p{
      DType::kFloat32,
      c.scale_param,
      Mixture::kLogSumExp,
      0.0,
      c.samples,
      c.components,
      c.features,
      own,
      shared,
      x.data(),
      logits.data(),
      {mu.data(), shared, c.components, c.features},
      {scale.data(), shared, c.components, scale_count / parameters}};
  const std::int64_t each = c.samples * c.components;
  Results r;
  for (int run = 0; run < 3; ++run) {
    for (const std::int64_t count :
         {c.samples, each, each, each, c.samples * c.features, mu_count,
          scale_count}) {
      r.push_back(unwritten<float>(count));
    }
  }
  const auto forward = [&](int i) {
    return GmmForward{p, r[i].data(), r[i + 1].data()};
  };
  const auto backward = [&](int i, const void* grad) {
    return GmmBackward{p,
                       grad,
                       0.5,
                       r[i].data(),
                       r[i + 1].data(),
                       r[i + 2].data(),
                       r[i + 4].data(),
                       r[i + 3].data(),
                       r[i + 5].data(),
                       r[i + 6].data()};
  };
  gmm_cpu_kernels_in_use().forward(forward(0));
  gmm_cpu_kernels_in_use().backward(backward(0, grad.data()));
  for (const bool keeps_components : {true, false}) {
    const int first = keeps_components ? 7 : 14;
    GmmForwardBackward both{forward(first), backward(first, nullptr)};
    both.forward.keeps_components = keeps_components;
    gmm_cpu_kernels_in_use().forward_backward(both);
  }
  return r;
}

const GmmCase kGmmCases[] = {
    {"gmm", 70, 5, 35, 70, ScaleParam::kLogStd},
    {"gmm in packs", 9, 20, 64, 9, ScaleParam::kStd},
    {"gmm, clusters of two blocks", 3, 29, 512, 3, ScaleParam::kLogStd},
    {"gmm, clusters of eight blocks", 2, 900, 64, 2, ScaleParam::kLogStd},
    {"gmm of many samples", 60, 3, 8, 60, ScaleParam::kLogStd},
    {"gmm of two features", 300, 5, 2, 300, ScaleParam::kSoftplus},
    {"gmm, shared", 700, 5, 6, 1, ScaleParam::kLogStd},
    {"gmm, shared, large", 150, 20, 70, 1, ScaleParam::kLogStd},
    {"gmm per position", 200, 5, 6, 4, ScaleParam::kVar},
    {"gmm, tril", 40, 9, 3, 40, ScaleParam::kTril},
    {"gmm, tril, shared", 200, 5, 8, 2, ScaleParam::kTril},
};

// Runs each pass, and both at once. 11 taps run in strips, others in tiles.
Results run_ssim(int taps) {
  SsimProblem p{};
  p.dtype = DType::kFloat32;
  p.batch = 1;
  p.channels = 2;
  p.height = 40;
  p.width = 150;
  p.border_rows = p.border_columns = 1;
  p.vertical.count = taps;
  std::fill_n(p.vertical.weights, taps, 1.0 / taps);
  p.horizontal = p.vertical;
  p.data_range = 1;
  p.k1 = 0.01;
  p.k2 = 0.03;
  const std::int64_t plane = p.height * p.width, pixels = p.planes() * plane;
  const std::int64_t windows = p.planes() * p.map_height() * p.map_width();
  p.x_strides = p.y_strides = {p.channels * plane, plane, p.width, 1};
  Random random(4);
  const auto x = convert<float>(random.normal(pixels, 0.5, 0.2));
  const auto y = convert<float>(random.normal(pixels, 0.5, 0.2));
  const auto grad = convert<float>(random.normal(windows, 0, 1));
  p.x = x.data();
  p.y = y.data();
  const SsimCpuKernels& kernels = ssim_cpu_kernels_in_use();
  const std::int64_t sums = p.planes() * kernels.parts(p) * SsimSums::kCount;
  Results r;
  for (const std::int64_t count :
       {windows, sums, pixels, pixels, sums, pixels, pixels}) {
    r.push_back(unwritten<float>(count));
  }
  SsimBackward backward{};
  static_cast<SsimProblem&>(backward) = p;
  backward.grad_x_strides = backward.grad_y_strides = p.x_strides;
  backward.grad = grad.data();
  backward.grad_of_map = true;
  backward.grad_x = r[2].data();
  backward.grad_y = r[3].data();
  kernels.forward({p, r[0].data(), r[1].data(), true});
  kernels.backward(backward);
  backward.grad = nullptr;
  backward.grad_of_map = false;
  backward.constant_grad[SsimSums::kIndex] = 1;
  backward.grad_x = r[5].data();
  backward.grad_y = r[6].data();
  kernels.forward_backward({{p, nullptr, r[4].data(), true}, backward});
  return r;
}

}  // namespace
}  // namespace vtadl

int main() {
  for (const vtadl::GmmCase& c : vtadl::kGmmCases) {
    vtadl::expect_same_bits(c.name, [&] { return vtadl::run_gmm(c); });
  }
  vtadl::expect_same_bits("ssim in strips", [] { return vtadl::run_ssim(11); });
  vtadl::expect_same_bits("ssim in tiles", [] { return vtadl::run_ssim(7); });
  std::puts("no kernel depends on the order of its threads");
}
