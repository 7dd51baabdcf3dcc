// The SSIM kernels against the formulas written out in double precision.
#include "ssim/ssim.h"

#include "check.h"
#include "common/cpu_dispatch.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(SsimCpuKernels, ssim_cpu_kernels)

namespace {

using std::int64_t;

struct Case {
  const char* name;
  int64_t planes, height, width;
  int taps;
};

SsimProblem problem_of(const Case& c, DType dtype, const void* x,
                       const void* y) {
  SsimProblem p{};
  p.dtype = dtype;
  p.planes = c.planes;
  p.height = c.height;
  p.width = c.width;
  p.taps = c.taps;
  double sum = 0;
  for (int t = 0; t < c.taps; ++t) {
    p.window[t] = std::exp(-0.1 * std::pow(t - c.taps / 2, 2));
    sum += p.window[t];
  }
  for (int t = 0; t < c.taps; ++t) p.window[t] /= sum;
  p.c1 = 1e-4;
  p.c2 = 9e-4;
  p.x = x;
  p.y = y;
  return p;
}

// The map at one window of one pair of planes.
double ssim_at(const SsimProblem& p, const double* x, const double* y,
               int64_t row, int64_t column) {
  double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
  for (int i = 0; i < p.taps; ++i) {
    for (int j = 0; j < p.taps; ++j) {
      const double weight = p.window[i] * p.window[j];
      const double a = x[(row + i) * p.width + column + j];
      const double b = y[(row + i) * p.width + column + j];
      mean_x += weight * a;
      mean_y += weight * b;
      xx += weight * a * a;
      yy += weight * b * b;
      xy += weight * a * b;
    }
  }
  const double variances = xx - mean_x * mean_x + yy - mean_y * mean_y;
  return (2 * mean_x * mean_y + p.c1) * (2 * (xy - mean_x * mean_y) + p.c2) /
         ((mean_x * mean_x + mean_y * mean_y + p.c1) * (variances + p.c2));
}

Values map_of(const SsimProblem& p, const Values& x, const Values& y) {
  Values map;
  for (int64_t plane = 0; plane < p.planes; ++plane) {
    const int64_t at = plane * p.height * p.width;
    for (int64_t i = 0; i < p.map_height(); ++i) {
      for (int64_t j = 0; j < p.map_width(); ++j) {
        map.push_back(ssim_at(p, &x[at], &y[at], i, j));
      }
    }
  }
  return map;
}

double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Derivative of Σ grad·map along a direction in which both images move.
double slope_along(const SsimProblem& p, const Values& grad, Values x, Values y,
                   const Values& direction_x, const Values& direction_y,
                   double step) {
  double values[2];
  for (const int sign : {1, -1}) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] += (sign == 1 ? 1 : -2) * step * direction_x[i];
      y[i] += (sign == 1 ? 1 : -2) * step * direction_y[i];
    }
    values[sign == 1] = dot(grad, map_of(p, x, y));
  }
  return (values[1] - values[0]) / (2 * step);
}

template <typename T>
void run(const Case& c, DType dtype) {
  Random random(2);
  const int64_t count = c.planes * c.height * c.width;
  const Values x = random.normal(count, 0.6, 0.2);
  const Values y = random.normal(count, 0.5, 0.2);
  const auto x_typed = convert<T>(x), y_typed = convert<T>(y);
  const SsimProblem p = problem_of(c, dtype, x_typed.data(), y_typed.data());
  const Values wanted = map_of(p, x, y);
  const int64_t windows = static_cast<int64_t>(wanted.size());
  const std::string name = c.name;

  auto map = unwritten<T>(windows);
  ssim_cpu_kernels_in_use().forward({p, map.data(), nullptr});
  expect_close(name + " map", map, wanted);

  const int64_t tiles = p.tile_rows() * p.tile_columns();
  auto sums = unwritten<T>(c.planes * tiles);
  ssim_cpu_kernels_in_use().forward({p, nullptr, sums.data()});
  double total = 0, total_wanted = 0;
  for (const T sum : sums) total += static_cast<double>(sum);
  for (const double value : wanted) total_wanted += value;
  expect_close(name + " sums", std::vector<T>{static_cast<T>(total)},
               {total_wanted});

  const Values grad = random.normal(windows, 0, 1);
  const auto grad_typed = convert<T>(grad);
  auto grad_x = unwritten<T>(count), grad_y = unwritten<T>(count);
  ssim_cpu_kernels_in_use().backward(
      {p, grad_typed.data(), true, grad_x.data(), grad_y.data()});
  for (int i = 0; i < 4; ++i) {
    const Values along_x = random.normal(count, 0, 1);
    const Values along_y = random.normal(count, 0, 1);
    const double slope = slope_along(p, grad, x, y, along_x, along_y, 1e-6);
    const double got = dot(Values(grad_x.begin(), grad_x.end()), along_x) +
                       dot(Values(grad_y.begin(), grad_y.end()), along_y);
    // Central differences: good to some 1e-8 of the slope's terms.
    const double scale = std::sqrt(dot(grad, grad));
    if (!(std::abs(got - slope) <= (sizeof(T) == 8 ? 1e-6 : 1e-4) * scale)) {
      std::fprintf(stderr, "%s gradient: %.10g, not %.10g\n", c.name, got,
                   slope);
      std::exit(1);
    }
  }
}

}  // namespace

void test_ssim() {
  const Case cases[] = {{"one window", 1, 11, 11, 11},
                        {"one tile", 2, 20, 31, 11},
                        {"several tiles", 1, 45, 90, 11},
                        {"small window", 1, 9, 70, 3},
                        {"large window", 1, 36, 33, 31}};
  for (const Case& c : cases) {
    run<float>(c, DType::kFloat32);
    run<double>(c, DType::kFloat64);
  }
}

}  // namespace vtadl
