// The mixture kernels against the formulas written out in double precision.
#include "gmm/gmm.h"

#include "check.h"
#include "common/cpu_dispatch.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(GmmCpuKernels, gmm_cpu_kernels)

namespace {

using std::int64_t;

// `shared`: one mixture for all samples.
struct Case {
  const char* name;
  int64_t samples, components, features;
  bool shared, one_mu, one_scale;
  ScaleParam scale_param;
  Mixture mixture;
  double min_std;
};

struct Expected {
  Values log_prob, grad_x, grad_logits, grad_mu, grad_scale;
};

struct Data {
  Values x, logits, mu, scale, grad;
};

int64_t mu_features(const Case& c) { return c.one_mu ? 1 : c.features; }
int64_t scale_features(const Case& c) { return c.one_scale ? 1 : c.features; }
int64_t parameter_rows(const Case& c) { return c.shared ? 1 : c.samples; }

double log_std_of(const Case& c, double raw) {
  double std = 0;
  switch (c.scale_param) {
    case ScaleParam::kLogStd:
      std = std::exp(raw);
      break;
    case ScaleParam::kStd:
      std = raw;
      break;
    case ScaleParam::kLogVar:
      std = std::exp(raw / 2);
      break;
    case ScaleParam::kVar:
      std = std::sqrt(raw);
      break;
    case ScaleParam::kSoftplus:
      std = std::log1p(std::exp(raw));
      break;
  }
  return std::log(std::max(std, c.min_std));
}

// By central differences: what no formula of the kernels has touched.
double slope_of(const Case& c, double raw) {
  const double step = 1e-5;
  return (log_std_of(c, raw + step) - log_std_of(c, raw - step)) / (2 * step);
}

Values softmax(const double* logits, int64_t count) {
  double sum = 0;
  Values result(count);
  for (int64_t k = 0; k < count; ++k) sum += std::exp(logits[k]);
  for (int64_t k = 0; k < count; ++k) result[k] = std::exp(logits[k]) / sum;
  return result;
}

void add_sample(const Case& c, const Data& data, int64_t n, Expected& out) {
  const int64_t row = c.shared ? 0 : n, count = c.components;
  const Values pi = softmax(&data.logits[row * count], count);
  Values log_normal(count, 0), share(count);
  const auto mu_at = [&](int64_t k, int64_t d) {
    return (row * count + k) * mu_features(c) + (c.one_mu ? 0 : d);
  };
  const auto scale_at = [&](int64_t k, int64_t d) {
    return (row * count + k) * scale_features(c) + (c.one_scale ? 0 : d);
  };
  const auto z_of = [&](int64_t k, int64_t d) {
    return (data.x[n * c.features + d] - data.mu[mu_at(k, d)]) /
           std::exp(log_std_of(c, data.scale[scale_at(k, d)]));
  };
  double likelihood = 0, weighted = 0;
  for (int64_t k = 0; k < count; ++k) {
    for (int64_t d = 0; d < c.features; ++d) {
      log_normal[k] -= 0.5 * std::pow(z_of(k, d), 2) +
                       log_std_of(c, data.scale[scale_at(k, d)]) +
                       0.5 * std::log(2 * 3.14159265358979323846);
    }
    likelihood += pi[k] * std::exp(log_normal[k]);
    weighted += pi[k] * log_normal[k];
  }
  const bool is_weighted = c.mixture == Mixture::kWeighted;
  out.log_prob[n] = is_weighted ? weighted : std::log(likelihood);
  for (int64_t k = 0; k < count; ++k) {
    const double weight =
        is_weighted ? pi[k] : pi[k] * std::exp(log_normal[k]) / likelihood;
    out.grad_logits[n * count + k] =
        data.grad[n] *
        (is_weighted ? pi[k] * (log_normal[k] - weighted) : weight - pi[k]);
    for (int64_t d = 0; d < c.features; ++d) {
      const double raw = data.scale[scale_at(k, d)], z = z_of(k, d);
      const double pull =
          data.grad[n] * weight * z / std::exp(log_std_of(c, raw));
      out.grad_x[n * c.features + d] -= pull;
      out.grad_mu[mu_at(k, d)] += pull;
      out.grad_scale[scale_at(k, d)] +=
          data.grad[n] * weight * (z * z - 1) * slope_of(c, raw);
    }
  }
}

RowMap row_map(const Case& c, bool parameter) {
  RowMap map;
  map.add_outer(c.samples, parameter && c.shared);
  return map;
}

template <typename T>
void run(const Case& c, DType dtype, const Data& data, const Expected& wanted) {
  const auto x = convert<T>(data.x), logits = convert<T>(data.logits);
  const auto mu = convert<T>(data.mu), scale = convert<T>(data.scale);
  const auto grad = convert<T>(data.grad);
  const GmmProblem problem{dtype,
                           c.scale_param,
                           c.mixture,
                           c.min_std,
                           c.samples,
                           c.components,
                           c.features,
                           mu_features(c),
                           scale_features(c),
                           row_map(c, false),
                           row_map(c, true),
                           row_map(c, true),
                           row_map(c, true),
                           x.data(),
                           logits.data(),
                           mu.data(),
                           scale.data()};
  auto log_prob = unwritten<T>(c.samples);
  auto component = unwritten<T>(c.samples * c.components);
  gmm_cpu_kernels_in_use().forward(
      {problem, log_prob.data(), component.data()});
  const std::string name = c.name;
  expect_close(name + " log_prob", log_prob, wanted.log_prob);

  auto weight = unwritten<T>(component.size());
  auto grad_x = unwritten<T>(x.size());
  auto grad_logits = unwritten<T>(component.size());
  auto grad_mu = unwritten<T>(mu.size());
  auto grad_scale = unwritten<T>(scale.size());
  gmm_cpu_kernels_in_use().backward(
      {problem, grad.data(), log_prob.data(), component.data(), weight.data(),
       grad_x.data(), grad_logits.data(), grad_mu.data(), grad_scale.data()});
  expect_close(name + " grad_x", grad_x, wanted.grad_x);
  expect_close(name + " grad_logits", grad_logits, wanted.grad_logits);
  expect_close(name + " grad_mu", grad_mu, wanted.grad_mu);
  expect_close(name + " grad_scale", grad_scale, wanted.grad_scale);
}

void test(const Case& c) {
  Random random(1);
  const int64_t rows = parameter_rows(c) * c.components;
  const bool positive =
      c.scale_param == ScaleParam::kStd || c.scale_param == ScaleParam::kVar;
  Data data{random.normal(c.samples * c.features, 0, 1),
            random.normal(rows, 0, 1),
            random.normal(rows * mu_features(c), 0, 0.5),
            random.normal(rows * scale_features(c), positive ? 1.5 : 0.3, 0.1),
            random.normal(c.samples, 0, 1)};
  Expected wanted{Values(c.samples), Values(data.x.size()),
                  Values(c.samples * c.components), Values(data.mu.size()),
                  Values(data.scale.size())};
  for (int64_t n = 0; n < c.samples; ++n) add_sample(c, data, n, wanted);
  run<float>(c, DType::kFloat32, data, wanted);
  // The differences in slope_of limit the agreement in double precision.
  if (c.scale_param == ScaleParam::kLogStd) {
    run<double>(c, DType::kFloat64, data, wanted);
  }
}

}  // namespace

void test_gmm() {
  using S = ScaleParam;
  using M = Mixture;
  const Case cases[] = {
      {"one value", 1, 1, 1, false, false, false, S::kLogStd, M::kLogSumExp, 0},
      {"one feature", 9, 5, 1, false, false, false, S::kLogStd, M::kLogSumExp,
       0},
      {"two features", 5, 33, 2, false, false, false, S::kStd, M::kLogSumExp,
       0},
      {"tails", 3, 5, 33, false, false, false, S::kLogVar, M::kLogSumExp, 0},
      {"many components", 2, 70, 31, false, false, false, S::kVar, M::kWeighted,
       0},
      {"many features", 2, 3, 600, false, false, false, S::kSoftplus,
       M::kWeighted, 0},
      {"spherical", 4, 5, 35, false, false, true, S::kLogStd, M::kLogSumExp, 0},
      {"one mean", 4, 5, 35, false, true, false, S::kLogStd, M::kLogSumExp, 0},
      {"shared", 300, 6, 7, true, false, false, S::kLogStd, M::kLogSumExp, 0},
      {"shared spherical", 40, 6, 40, true, true, true, S::kSoftplus,
       M::kLogSumExp, 0},
      {"on the floor", 3, 4, 5, false, false, false, S::kLogStd, M::kLogSumExp,
       2.0},
  };
  for (const Case& c : cases) test(c);
}

}  // namespace vtadl
