// The mixture kernels agree with the formulas written out in double precision.
#include "gmm/gmm.h"

#include <algorithm>

#include "check.h"
#include "common/cpu_dispatch.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(GmmCpuKernels, gmm_cpu_kernels)

namespace {

using std::int64_t;

constexpr int64_t kAll = -1;  // a row, component or feature of its own for each

// The number of rows of each tensor; sample n reads row n % rows.
struct Rows {
  int64_t x = kAll, logits = kAll, mu = kAll, scale = kAll;
};

constexpr Rows kOwn = {};
constexpr Rows kOneMixture = {kAll, 1, 1, 1};
constexpr Rows kOneMixtureOwnLogits = {kAll, kAll, 1, 1};
constexpr Rows kOneX = {1, kAll, kAll, kAll};
constexpr Rows kOneScale = {kAll, kAll, kAll, 1};
constexpr Rows kOneMean = {kAll, 1, 1, kAll};

constexpr Rows positions(int64_t count) { return {kAll, count, count, count}; }

struct Case {
  const char* name;
  int64_t samples, components, features;
  ScaleParam scale_param = ScaleParam::kLogStd;
  Mixture mixture = Mixture::kLogSumExp;
  Rows rows = {};
  int64_t mu_components = kAll, mu_size = kAll;
  int64_t scale_components = kAll, scale_size = kAll;
  double min_std = 0;
  bool masked = false;  // component 1 has no weight, and holds no numbers
};

// The elements of mu or scale that belong to a component for a sample.
struct Shape {
  int64_t rows, components, size;

  int64_t numel() const { return rows * components * size; }
  int64_t at(int64_t n, int64_t k) const {
    return (n % rows * components + k % components) * size;
  }
};

int64_t count(int64_t count, int64_t all) {
  return count == kAll ? all : count;
}

bool is_tril(const Case& c) { return c.scale_param == ScaleParam::kTril; }

Shape mu_shape(const Case& c) {
  return {count(c.rows.mu, c.samples), count(c.mu_components, c.components),
          count(c.mu_size, c.features)};
}

Shape scale_shape(const Case& c) {
  return {
      count(c.rows.scale, c.samples), count(c.scale_components, c.components),
      is_tril(c) ? c.features * c.features : count(c.scale_size, c.features)};
}

int64_t x_rows(const Case& c) { return count(c.rows.x, c.samples); }
int64_t logits_rows(const Case& c) { return count(c.rows.logits, c.samples); }

// The inputs. `grad` is the upstream gradient of log_prob, or of
// component_log_prob if the operator returns nothing else.
struct Data {
  Values x, logits, mu, scale, grad;
};

struct Expected {
  Values log_prob, component_log_prob, grad_x, grad_logits, grad_mu, grad_scale;
};

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
    case ScaleParam::kPrecision:
      std = 1 / std::sqrt(raw);
      break;
    case ScaleParam::kTril:
      break;  // tril has no scale for each feature
  }
  return std::log(std::max(std, c.min_std));
}

// The slope by central differences of fourth order, which use no formula of the
// kernels.
double slope_of(const Case& c, double raw) {
  const double step = 1e-3;
  const auto rise = [&](double by) {
    return log_std_of(c, raw + by) - log_std_of(c, raw - by);
  };
  return (8 * rise(step) - rise(2 * step)) / (12 * step);
}

// log N_k and its derivatives with respect to mu and scale. The derivative with
// respect to x is the negative of that with respect to mu.
struct Component {
  double log_normal;
  Values by_mu, by_scale;
};

const double kHalfLog2Pi = 0.5 * std::log(2 * 3.14159265358979323846);

// A component with a scale for each feature, given the distances x - mu.
Component diagonal_component(const Case& c, const Values& distance,
                             const double* scale) {
  const int64_t size = scale_shape(c).size;
  Component out{0, Values(c.features), Values(size, 0)};
  for (int64_t d = 0; d < c.features; ++d) {
    const double raw = scale[d % size], log_std = log_std_of(c, raw);
    const double z = distance[d] / std::exp(log_std);
    out.log_normal -= 0.5 * z * z + log_std + kHalfLog2Pi;
    out.by_mu[d] = z / std::exp(log_std);
    out.by_scale[d % size] += (z * z - 1) * slope_of(c, raw);
  }
  return out;
}

// A component with a triangular factor T: y = T⁻¹ (x - mu) and u = T⁻ᵀ y.
Component tril_component(const Case& c, const Values& distance,
                         const double* scale) {
  const int64_t size = c.features;
  const auto factor = [&](int64_t i, int64_t j) { return scale[i * size + j]; };
  Values y = distance;
  Component out{0, Values(size), Values(size * size, 0)};
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = 0; j < i; ++j) y[i] -= factor(i, j) * y[j];
    y[i] /= factor(i, i);
    out.log_normal -= 0.5 * y[i] * y[i] + std::log(factor(i, i)) + kHalfLog2Pi;
  }
  Values& u = out.by_mu = y;
  for (int64_t i = size - 1; i >= 0; --i) {
    for (int64_t j = i + 1; j < size; ++j) u[i] -= factor(j, i) * u[j];
    u[i] /= factor(i, i);
  }
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      out.by_scale[i * size + j] = u[i] * y[j] - (i == j) / factor(i, i);
    }
  }
  return out;
}

Component component_of(const Case& c, const Data& data, int64_t n, int64_t k) {
  Values distance(c.features);
  for (int64_t d = 0; d < c.features; ++d) {
    distance[d] = data.x[n % x_rows(c) * c.features + d] -
                  data.mu[mu_shape(c).at(n, k) + d % mu_shape(c).size];
  }
  const double* scale = &data.scale[scale_shape(c).at(n, k)];
  return is_tril(c) ? tril_component(c, distance, scale)
                    : diagonal_component(c, distance, scale);
}

// log Σ exp(values).
double log_sum_exp(const Values& values) {
  const double maximum = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (const double value : values) sum += std::exp(value - maximum);
  return maximum + std::log(sum);
}

// Adds to the gradients what a sample contributes, given the weight of each
// component.
void add_gradients(const Case& c, const std::vector<Component>& components,
                   const Values& weight, int64_t n, Expected& out) {
  for (int64_t k = 0; k < c.components; ++k) {
    if (weight[k] == 0) continue;
    const Component& component = components[k];
    for (int64_t d = 0; d < c.features; ++d) {
      const double grad_mean = weight[k] * component.by_mu[d];
      out.grad_x[n * c.features + d] -= grad_mean;
      out.grad_mu[mu_shape(c).at(n, k) + d % mu_shape(c).size] += grad_mean;
    }
    for (int64_t i = 0; i < scale_shape(c).size; ++i) {
      out.grad_scale[scale_shape(c).at(n, k) + i] +=
          weight[k] * component.by_scale[i];
    }
  }
}

// Fills in the results of sample n, given log π and log N. Returns the weights
// of the components in the gradients.
Values mix_sample(const Case& c, const Data& data, int64_t n,
                  const Values& log_pi, const Values& log_normal,
                  Expected& out) {
  const bool is_weighted = c.mixture == Mixture::kWeighted;
  Values joint(c.components, -INFINITY), weight(c.components, 0);
  double weighted = 0;
  for (int64_t k = 0; k < c.components; ++k) {
    if (std::isinf(log_pi[k])) continue;
    joint[k] = log_pi[k] + log_normal[k];
    weighted += std::exp(log_pi[k]) * log_normal[k];
  }
  out.log_prob[n] = is_weighted ? weighted : log_sum_exp(joint);
  for (int64_t k = 0; k < c.components; ++k) {
    if (std::isinf(log_pi[k])) continue;
    const double pi = std::exp(log_pi[k]);
    const double share =
        is_weighted ? pi : std::exp(joint[k] - out.log_prob[n]);
    weight[k] = data.grad[n] * share;
    out.grad_logits[n * c.components + k] =
        data.grad[n] *
        (is_weighted ? pi * (log_normal[k] - weighted) : share - pi);
  }
  return weight;
}

void add_sample(const Case& c, const Data& data, int64_t n, Expected& out) {
  const int64_t size = c.components;
  const double* logits = &data.logits[n % logits_rows(c) * size];
  Values log_pi(logits, logits + size), log_normal;
  for (double& value : log_pi) value -= log_sum_exp({logits, logits + size});
  std::vector<Component> components;
  for (int64_t k = 0; k < size; ++k) {
    components.push_back(component_of(c, data, n, k));
    log_normal.push_back(components[k].log_normal);
    out.component_log_prob[n * size + k] =
        log_normal[k] + (c.mixture == Mixture::kLogSumExp ? log_pi[k] : 0.0);
  }
  add_gradients(c, components,
                c.mixture == Mixture::kNone
                    ? Values(data.grad.begin() + n * size,
                             data.grad.begin() + (n + 1) * size)
                    : mix_sample(c, data, n, log_pi, log_normal, out),
                n, out);
}

Expected formulas(const Case& c, const Data& data) {
  Expected out{Values(c.samples, 0),
               Values(c.samples * c.components, 0),
               Values(c.samples * c.features, 0),
               Values(c.samples * c.components, 0),
               Values(mu_shape(c).numel(), 0),
               Values(scale_shape(c).numel(), 0)};
  for (int64_t n = 0; n < c.samples; ++n) add_sample(c, data, n, out);
  return out;
}

// The map by which sample n reads row n % rows.
RowMap row_map(int64_t samples, int64_t rows) {
  RowMap map;
  map.add_outer(rows, false);
  if (samples != rows) map.add_outer(samples / rows, true);
  return map;
}

template <typename Scalar>
DType dtype_of() {
  if (std::is_same_v<Scalar, float>) return DType::kFloat32;
  if (std::is_same_v<Scalar, double>) return DType::kFloat64;
  return std::is_same_v<Scalar, c10::Half> ? DType::kFloat16 : DType::kBFloat16;
}

// The arrays of a problem, in the types that the kernels take.
template <typename Scalar>
struct Arrays {
  using T = Accumulate<Scalar>;
  const Case& c;
  std::vector<Scalar> x, logits, mu, scale;
  std::vector<T> grad, log_prob, component, weight, grad_x, grad_logits;
  std::vector<Scalar> grad_mu, grad_scale;

  Arrays(const Case& c, const Data& data)
      : c(c),
        x(convert<Scalar>(data.x)),
        logits(convert<Scalar>(data.logits)),
        mu(convert<Scalar>(data.mu)),
        scale(convert<Scalar>(data.scale)),
        grad(convert<T>(data.grad)),
        log_prob(unwritten<T>(c.samples)),
        component(unwritten<T>(c.samples * c.components)),
        weight(component),
        grad_x(unwritten<T>(c.samples * c.features)),
        grad_logits(component),
        grad_mu(unwritten<Scalar>(mu.size())),
        grad_scale(unwritten<Scalar>(scale.size())) {}

  GmmProblem problem() const {
    return {dtype_of<Scalar>(),
            c.scale_param,
            c.mixture,
            c.min_std,
            c.samples,
            c.components,
            c.features,
            row_map(c.samples, x_rows(c)),
            row_map(c.samples, logits_rows(c)),
            x.data(),
            logits.data(),
            parameter(mu, mu_shape(c)),
            parameter(scale, scale_shape(c))};
  }

  GmmForward forward() {
    const bool mixed = c.mixture != Mixture::kNone;
    return {problem(), mixed ? log_prob.data() : nullptr, component.data()};
  }

  // A backward problem whose wanted gradients are the bits 0 to 3 of `wanted`.
  GmmBackward backward(int wanted) {
    const bool mixed = c.mixture != Mixture::kNone;
    return {problem(),
            grad.data(),
            0,
            mixed ? log_prob.data() : nullptr,
            component.data(),
            weight.data(),
            wanted & 1 ? grad_x.data() : nullptr,
            wanted & 2 && mixed ? grad_logits.data() : nullptr,
            wanted & 4 ? grad_mu.data() : nullptr,
            wanted & 8 ? grad_scale.data() : nullptr};
  }

  void check_forward(const std::string& name, const Expected& expected,
                     bool keeps_components = true) const {
    if (c.mixture != Mixture::kNone) {
      expect_close(name + " log_prob", log_prob, expected.log_prob);
    }
    if (!c.masked && keeps_components) {
      expect_close(name + " component_log_prob", component,
                   expected.component_log_prob);
    }
  }

  void check_backward(const std::string& name, int wanted,
                      const Expected& expected) const {
    if (wanted & 1) expect_close(name + " grad_x", grad_x, expected.grad_x);
    if (wanted & 2 && c.mixture != Mixture::kNone) {
      expect_close(name + " grad_logits", grad_logits, expected.grad_logits);
    }
    if (wanted & 4) expect_close(name + " grad_mu", grad_mu, expected.grad_mu);
    if (wanted & 8) {
      expect_close(name + " grad_scale", grad_scale, expected.grad_scale);
    }
  }

 private:
  GmmParameter parameter(const std::vector<Scalar>& values,
                         const Shape& shape) const {
    return {values.data(), row_map(c.samples, shape.rows), shape.components,
            shape.size};
  }
};

// The values as the type stores them.
template <typename Scalar>
Values rounded(const Values& values) {
  Values result;
  for (const Scalar value : convert<Scalar>(values)) {
    result.push_back(static_cast<double>(value));
  }
  return result;
}

template <typename Scalar>
void run(const Case& c, const Data& exact) {
  constexpr int kEverything = 15;
  Data data = exact;
  for (Values* values : {&data.x, &data.logits, &data.mu, &data.scale}) {
    *values = rounded<Scalar>(*values);
  }
  data.grad = rounded<Accumulate<Scalar>>(data.grad);
  const std::string name =
      std::string(c.name) + " " + std::to_string(int(dtype_of<Scalar>()));
  const GmmCpuKernels& kernels = gmm_cpu_kernels_in_use();

  const Expected expected = formulas(c, data);
  Arrays<Scalar> arrays(c, data);
  kernels.forward(arrays.forward());
  arrays.check_forward(name, expected);
  for (const int wanted : {kEverything, 1, 2, 4, 8}) {
    Arrays<Scalar> results(c, data);
    results.log_prob = arrays.log_prob;
    results.component = arrays.component;
    kernels.backward(results.backward(wanted));
    results.check_backward(name, wanted, expected);
  }

  if (c.mixture == Mixture::kNone) return;
  const double constant_grad = -0.75;
  std::fill(data.grad.begin(), data.grad.end(), constant_grad);
  const Expected expected_at_once = formulas(c, data);
  for (const int wanted : {kEverything, 4}) {
    Arrays<Scalar> results(c, data);
    GmmForwardBackward both{results.forward(), results.backward(wanted)};
    both.forward.keeps_components = false;
    both.backward.grad = nullptr;
    both.backward.constant_grad = constant_grad;
    kernels.forward_backward(both);
    results.check_forward(name + " at once", expected_at_once, false);
    results.check_backward(name + " at once", wanted, expected_at_once);
  }
}

// Well-conditioned factors. Above the diagonal are numbers that no kernel may
// read.
Values tril_factors(const Case& c, Random& random) {
  const Shape shape = scale_shape(c);
  Values factors = random.normal(shape.numel(), 0, 0.3);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    const int64_t row = i % shape.size / c.features, column = i % c.features;
    if (row == column) factors[i] = 0.8 + std::abs(factors[i]);
    if (row < column) factors[i] = NAN;
  }
  return factors;
}

// Fills the elements that belong to component 1.
void fill_component(Values& values, int64_t rows, int64_t components,
                    int64_t size, double value) {
  if (components == 1) return;
  for (int64_t row = 0; row < rows; ++row) {
    const auto first = values.begin() + (row * components + 1) * size;
    std::fill(first, first + size, value);
  }
}

void test(const Case& c) {
  Random random(1);
  const Shape mu = mu_shape(c), scale = scale_shape(c);
  // The standard deviations are near 1, whatever the parametrisation.
  const bool positive = c.scale_param == ScaleParam::kStd ||
                        c.scale_param == ScaleParam::kVar ||
                        c.scale_param == ScaleParam::kPrecision;
  const bool mixed = c.mixture != Mixture::kNone;
  Data data{random.normal(x_rows(c) * c.features, 0, 1),
            random.normal(logits_rows(c) * c.components, 0, 1),
            random.normal(mu.numel(), 0, 1),
            is_tril(c)
                ? tril_factors(c, random)
                : random.normal(scale.numel(), positive ? 1.5 : 0.2, 0.15),
            random.normal(c.samples * (mixed ? 1 : c.components), 1, 0.3)};
  if (c.masked) {
    const double kInfinity = INFINITY;
    fill_component(data.logits, logits_rows(c), c.components, 1, -kInfinity);
    fill_component(data.mu, mu.rows, mu.components, mu.size, NAN);
    fill_component(data.scale, scale.rows, scale.components, scale.size,
                   kInfinity);
    if (!mixed) fill_component(data.grad, c.samples, c.components, 1, 0);
  }
  run<float>(c, data);
  run<double>(c, data);
  run<c10::BFloat16>(c, data);
  run<c10::Half>(c, data);
}

using S = ScaleParam;
using M = Mixture;

// Cases in which each sample has a mixture of its own.
const Case kSamples[] = {
    {"one of everything", 1, 1, 1, S::kLogStd, M::kLogSumExp},
    {"one feature", 37, 5, 1, S::kStd, M::kLogSumExp},
    {"one feature of many components", 3, 300, 1, S::kLogStd, M::kLogSumExp},
    {"two features", 5, 33, 2, S::kStd, M::kLogSumExp},
    {"three features", 70, 5, 3, S::kLogStd, M::kWeighted},
    {"tails", 3, 5, 33, S::kLogVar, M::kLogSumExp},
    {"packs", 3, 5, 64, S::kLogVar, M::kLogSumExp},
    {"packs of softplus", 9, 6, 24, S::kSoftplus, M::kLogSumExp},
    {"packs of variances", 2, 3, 256, S::kVar, M::kLogSumExp},
    {"packs of precisions", 2, 3, 24, S::kPrecision, M::kLogSumExp},
    {"many components", 2, 70, 31, S::kVar, M::kWeighted},
    {"many samples", 600, 3, 8, S::kStd, M::kLogSumExp},
    {"many samples, tails", 50, 3, 5, S::kLogStd, M::kWeighted},
    {"many features", 2, 3, 600, S::kSoftplus, M::kWeighted},
    {"a cluster of two blocks", 2, 229, 64, S::kLogStd, M::kLogSumExp},
    {"a cluster, masked", 2, 229, 64, S::kStd, M::kLogSumExp, kOwn, kAll, kAll,
     kAll, kAll, 0, true},
    {"on the floor", 3, 4, 5, S::kLogStd, M::kLogSumExp, kOwn, kAll, kAll, kAll,
     kAll, 2.0},
    {"masked", 4, 5, 16, S::kLogStd, M::kLogSumExp, kOwn, kAll, kAll, kAll,
     kAll, 0, true},
    {"masked, weighted", 4, 5, 3, S::kStd, M::kWeighted, kOwn, kAll, kAll, kAll,
     kAll, 0, true},
};

const Case kBroadcast[] = {
    {"spherical", 4, 5, 35, S::kLogStd, M::kLogSumExp, kOwn, kAll, kAll, kAll,
     1},
    {"spherical packs", 4, 5, 32, S::kVar, M::kLogSumExp, kOwn, kAll, kAll,
     kAll, 1},
    {"many spherical samples", 50, 3, 8, S::kLogStd, M::kLogSumExp, kOwn, kAll,
     kAll, kAll, 1},
    {"many samples, tied scale", 50, 3, 7, S::kStd, M::kLogSumExp, kOwn, kAll,
     kAll, 1, kAll},
    {"spherical, two features", 40, 5, 2, S::kStd, M::kLogSumExp, kOwn, kAll,
     kAll, kAll, 1},
    {"one mean", 4, 5, 35, S::kLogStd, M::kLogSumExp, kOwn, kAll, 1},
    {"tied scale", 5, 6, 16, S::kStd, M::kLogSumExp, kOwn, kAll, kAll, 1, kAll},
    {"tied spherical scale", 5, 6, 7, S::kStd, M::kWeighted, kOwn, kAll, kAll,
     1, 1},
    {"tied mean", 5, 6, 7, S::kLogStd, M::kLogSumExp, kOwn, 1, kAll},
    {"one mean for all", 5, 6, 7, S::kLogStd, M::kLogSumExp, kOwn, 1, 1, kAll,
     1},
    {"one sample, many mixtures", 6, 4, 9, S::kLogStd, M::kLogSumExp, kOneX},
    {"scale for all samples", 40, 4, 9, S::kLogStd, M::kLogSumExp, kOneScale},
    {"mean for all samples", 40, 4, 12, S::kSoftplus, M::kLogSumExp, kOneMean},
    {"masked and tied", 4, 5, 16, S::kLogStd, M::kLogSumExp, kOwn, kAll, kAll,
     1, kAll, 0, true},
};

const Case kShared[] = {
    {"no samples", 0, 3, 8, S::kLogStd, M::kLogSumExp, kOneMixture},
    {"shared", 300, 6, 7, S::kLogStd, M::kLogSumExp, kOneMixture},
    {"shared, two features", 1000, 5, 2, S::kSoftplus, M::kLogSumExp,
     kOneMixture},
    {"shared, one feature", 513, 3, 1, S::kStd, M::kWeighted, kOneMixture},
    {"shared, many components", 130, 70, 12, S::kLogVar, M::kLogSumExp,
     kOneMixture},
    {"shared, many features", 70, 3, 130, S::kVar, M::kLogSumExp, kOneMixture},
    {"shared spherical", 40, 6, 40, S::kSoftplus, M::kLogSumExp, kOneMixture,
     kAll, 1, kAll, 1},
    {"shared, tied scale", 200, 6, 5, S::kLogStd, M::kLogSumExp, kOneMixture,
     kAll, kAll, 1, kAll},
    {"shared, tied mean", 200, 6, 5, S::kLogStd, M::kWeighted, kOneMixture, 1,
     kAll, kAll, 1},
    {"shared, on the floor", 100, 4, 5, S::kLogStd, M::kLogSumExp, kOneMixture,
     kAll, kAll, kAll, kAll, 2.0},
    {"shared and masked", 150, 5, 6, S::kLogStd, M::kLogSumExp, kOneMixture,
     kAll, kAll, kAll, kAll, 0, true},
    {"shared means, own logits", 200, 6, 5, S::kLogStd, M::kLogSumExp,
     kOneMixtureOwnLogits},
    {"a mixture per position", 160, 3, 10, S::kLogStd, M::kLogSumExp,
     positions(5)},
    {"few samples per position", 60, 4, 6, S::kStd, M::kWeighted,
     positions(20)},
    {"few samples per position, many features", 112, 3, 24, S::kLogStd,
     M::kLogSumExp, positions(16)},
    {"few samples per position, weighted", 32, 5, 37, S::kSoftplus,
     M::kWeighted, positions(16)},
    {"few samples per position, masked", 60, 4, 16, S::kStd, M::kLogSumExp,
     positions(20), kAll, kAll, kAll, kAll, 0, true},
    {"no samples", 0, 4, 6, S::kLogStd, M::kLogSumExp, kOneMixture},
};

const Case kComponents[] = {
    {"components", 5, 4, 6, S::kLogStd, M::kNone},
    {"components, packs", 5, 4, 16, S::kStd, M::kNone},
    {"components, shared", 300, 6, 7, S::kLogStd, M::kNone, kOneMixture},
    {"components, few samples per position", 48, 3, 20, S::kVar, M::kNone,
     positions(16)},
    {"components, tril", 7, 5, 3, S::kTril, M::kNone},
    {"components, masked", 5, 4, 6, S::kLogStd, M::kNone, kOwn, kAll, kAll,
     kAll, kAll, 0, true},
};

const Case kTril[] = {
    {"tril, one feature", 20, 5, 1, S::kTril, M::kLogSumExp},
    {"tril, two features", 40, 7, 2, S::kTril, M::kLogSumExp},
    {"tril, three features", 7, 35, 3, S::kTril, M::kWeighted},
    {"tril, five features", 3, 3, 5, S::kTril, M::kLogSumExp},
    {"tril, eight features", 5, 6, 8, S::kTril, M::kLogSumExp},
    {"tril, shared", 300, 4, 3, S::kTril, M::kLogSumExp, kOneMixture},
    {"tril, shared, eight features", 90, 3, 8, S::kTril, M::kLogSumExp,
     kOneMixture},
    {"tril per position", 60, 3, 2, S::kTril, M::kLogSumExp, positions(6)},
    {"tril for all samples", 50, 3, 4, S::kTril, M::kLogSumExp, kOneScale},
    {"tril, no samples", 0, 3, 4, S::kTril, M::kLogSumExp, kOneMixture},
    {"tied tril", 9, 4, 3, S::kTril, M::kLogSumExp, kOwn, kAll, kAll, 1},
    {"tril, one mean", 9, 4, 3, S::kTril, M::kLogSumExp, kOwn, kAll, 1},
    {"tril, tied mean", 9, 4, 3, S::kTril, M::kLogSumExp, kOwn, 1, 1},
    {"tril, masked", 6, 4, 3, S::kTril, M::kLogSumExp, kOwn, kAll, kAll, kAll,
     kAll, 0, true},
    {"tril, shared and masked", 60, 4, 8, S::kTril, M::kWeighted, kOneMixture,
     kAll, kAll, kAll, kAll, 0, true},
};

}  // namespace

void test_gmm() {
  for (const Case& c : kSamples) test(c);
  for (const Case& c : kBroadcast) test(c);
  for (const Case& c : kShared) test(c);
  for (const Case& c : kComponents) test(c);
  for (const Case& c : kTril) test(c);
}

}  // namespace vtadl
