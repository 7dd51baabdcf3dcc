// The SSIM kernels agree with the formulas written out in double precision.
#include "ssim/ssim.h"

#include <algorithm>

#include "check.h"
#include "common/cpu_dispatch.h"
#include "ssim/math.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(SsimCpuKernels, ssim_cpu_kernels)

namespace {

using std::int64_t;

enum class Layout { kContiguous, kChannelsLast };

struct Case {
  const char* name;
  int64_t batch, channels, height, width;
  int taps;
  int64_t border = 0;
  bool masked = false;
  SsimComponent component = SsimComponent::kIndex;
  double data_range = 1;
  Layout layout = Layout::kContiguous;
  int horizontal_taps = 0;     // where they differ from the vertical ones
  int64_t border_columns = 0;  // likewise

  int64_t count() const { return batch * channels * height * width; }
};

// ------------------------------------------------------------------- formulas

// Pixels in the order of [batch, channels, height, width].
struct Images {
  Values x, y;
  std::vector<bool> valid;

  Images moved(double step, const Images& direction) const {
    Images result = *this;
    for (std::size_t i = 0; i < x.size(); ++i) {
      result.x[i] += step * direction.x[i];
      result.y[i] += step * direction.y[i];
    }
    return result;
  }
};

// The index of one window, and whether it holds a valid pixel.
struct Index {
  double value;
  bool counts;
};

Index index_of(const SsimProblem& p, const Images& images, int64_t plane,
               int64_t row, int64_t column) {
  double weights = 0, mean_x = 0, mean_y = 0, squares = 0, xy = 0;
  for (int i = 0; i < p.vertical.count; ++i) {
    for (int j = 0; j < p.horizontal.count; ++j) {
      const int64_t r = row + i - p.border_rows,
                    c = column + j - p.border_columns;
      const bool inside = r >= 0 && r < p.height && c >= 0 && c < p.width;
      const int64_t at = (plane * p.height + r) * p.width + c;
      if (p.mask && !(inside && images.valid[at])) continue;
      const double weight = p.vertical.weights[i] * p.horizontal.weights[j];
      const double a = inside ? images.x[at] / p.data_range : 0;
      const double b = inside ? images.y[at] / p.data_range : 0;
      weights += weight;
      mean_x += weight * a;
      mean_y += weight * b;
      squares += weight * (a * a + b * b);
      xy += weight * a * b;
    }
  }
  if (weights < 1e-12) return {0, false};
  mean_x /= weights;
  mean_y /= weights;
  const double c1 = p.k1 * p.k1, c2 = p.k2 * p.k2;
  const double means = mean_x * mean_x + mean_y * mean_y;
  const double structure = (2 * (xy / weights - mean_x * mean_y) + c2) /
                           (squares / weights - means + c2);
  const double luminance = (2 * mean_x * mean_y + c1) / (means + c1);
  switch (p.component) {
    case SsimComponent::kContrastStructure:
      return {structure, true};
    case SsimComponent::kLuminance:
      return {luminance, true};
    default:
      return {luminance * structure, true};
  }
}

// The map, and the sums of each plane.
struct Forward {
  Values map, sums;
};

Forward forward_of(const SsimProblem& p, const Images& images) {
  Forward result;
  for (int64_t plane = 0; plane < p.planes(); ++plane) {
    double sums[SsimSums::kCount] = {};
    for (int64_t i = 0; i < p.map_height(); ++i) {
      for (int64_t j = 0; j < p.map_width(); ++j) {
        const Index index = index_of(p, images, plane, i, j);
        result.map.push_back(index.value);
        sums[SsimSums::kIndex] += index.value;
        sums[SsimSums::kWindows] += index.counts;
      }
    }
    for (int64_t i = 0; i < p.height * p.width; ++i) {
      const double error = images.x[plane * p.height * p.width + i] -
                           images.y[plane * p.height * p.width + i];
      sums[SsimSums::kSquaredErrors] += error * error;
      sums[SsimSums::kAbsoluteErrors] += std::abs(error);
    }
    result.sums.insert(result.sums.end(), sums, sums + SsimSums::kCount);
  }
  return result;
}

double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// ------------------------------------------------------------------ in memory

ImageStrides strides_of(const Case& c) {
  const int64_t plane = c.height * c.width;
  if (c.layout == Layout::kChannelsLast) {
    return {c.channels * plane, 1, c.width * c.channels, c.channels};
  }
  return {c.channels * plane, plane, c.width, 1};
}

// Calls body(i, offset) for the i-th pixel in the order of the dimensions.
template <typename Body>
void for_each_pixel(const Case& c, const Body& body) {
  const ImageStrides s = strides_of(c);
  for (int64_t i = 0; i < c.count(); ++i) {
    const int64_t column = i % c.width, row = i / c.width % c.height;
    const int64_t plane = i / c.width / c.height;
    body(i, plane / c.channels * s.batch + plane % c.channels * s.channel +
                row * s.row + column * s.column);
  }
}

template <typename T, typename From>
std::vector<T> laid_out(const Case& c, const From& values) {
  std::vector<T> result(c.count());
  for_each_pixel(c, [&](int64_t i, int64_t offset) {
    result[offset] = static_cast<T>(values[i]);
  });
  return result;
}

template <typename T>
Values in_order(const Case& c, const std::vector<T>& data) {
  Values result(c.count());
  for_each_pixel(c, [&](int64_t i, int64_t offset) {
    result[i] = static_cast<double>(data[offset]);
  });
  return result;
}

// ---------------------------------------------------------------------- tests

template <typename T>
class Test {
  using Sum = Accumulate<T>;

 public:
  Test(const Case& c, DType dtype) : case_(c), random_(2) {
    const double range = c.data_range;
    // All channels have one mask, and none of its pixels on the left is valid.
    const int64_t plane = c.height * c.width;
    for (const double value : random_.normal(c.batch * plane, 0, 1)) {
      const auto column = static_cast<int64_t>(mask_.size()) % c.width;
      mask_.push_back(value < -0.5 && column >= c.width / 2);
    }
    for (int64_t i = 0; i < c.count(); ++i) {
      const int64_t image = i / plane / c.channels;
      images_.valid.push_back(!c.masked || mask_[image * plane + i % plane]);
    }
    x_ = laid_out<T>(c, random_.normal(c.count(), 0.2 * range, 0.2 * range));
    y_ = laid_out<T>(c, random_.normal(c.count(), 0.1 * range, 0.2 * range));
    images_.x = in_order(c, x_);  // as rounded
    images_.y = in_order(c, y_);
    problem_ = problem(dtype);
    wanted_ = forward_of(problem_, images_);
  }

  void run() {
    forward();
    backward_of_map();
    backward_of_sums();
    forward_backward();
    if (case_.masked) masked_pixels_take_no_part();
  }

 private:
  SsimProblem problem(DType dtype) const {
    const Case& c = case_;
    SsimProblem p{};
    p.dtype = dtype;
    p.batch = c.batch;
    p.channels = c.channels;
    p.height = c.height;
    p.width = c.width;
    p.border_rows = c.border;
    p.border_columns = c.border_columns ? c.border_columns : c.border;
    p.vertical = taps(c.taps);
    p.horizontal = taps(c.horizontal_taps ? c.horizontal_taps : c.taps);
    p.data_range = c.data_range;
    p.k1 = 0.02;
    p.k2 = 0.06;
    p.component = c.component;
    p.x = x_.data();
    p.y = y_.data();
    if (c.masked) p.mask = reinterpret_cast<const bool*>(mask_.data());
    p.x_strides = p.y_strides = strides_of(c);
    p.mask_strides = {c.height * c.width, 0, c.width, 1};
    return p;
  }

  static SsimTaps taps(int count) {
    SsimTaps result{};
    result.count = count;
    double sum = 0;
    for (int t = 0; t < count; ++t) {
      result.weights[t] = std::exp(-0.1 * std::pow(t - count / 2, 2));
      sum += result.weights[t];
    }
    for (int t = 0; t < count; ++t) result.weights[t] /= sum;
    return result;
  }

  int64_t parts() const { return ssim_cpu_kernels_in_use().parts(problem_); }

  std::vector<Sum> unwritten_sums() const {
    return unwritten<Sum>(problem_.planes() * parts() * SsimSums::kCount);
  }

  void expect_sums(const std::string& what, const std::vector<Sum>& sums,
                   bool errors) const {
    for (int s = 0; s < SsimSums::kCount; ++s) {
      std::vector<Sum> got(problem_.planes());
      Values wanted(problem_.planes());
      const bool asked = errors || s < SsimSums::kSquaredErrors;
      for (int64_t plane = 0; plane < problem_.planes(); ++plane) {
        double sum = 0;
        for (int64_t part = 0; part < parts(); ++part) {
          sum += static_cast<double>(
              sums[(plane * parts() + part) * SsimSums::kCount + s]);
        }
        got[plane] = static_cast<Sum>(sum);
        wanted[plane] = asked ? wanted_.sums[plane * SsimSums::kCount + s] : 0;
      }
      expect_close(name(what) + " " + std::to_string(s), got, wanted);
    }
  }

  void forward() const {
    auto map = unwritten<Sum>(wanted_.map.size());
    auto sums = unwritten_sums();
    const auto& kernels = ssim_cpu_kernels_in_use();
    kernels.forward({problem_, map.data(), nullptr, false});
    expect_close(name("map"), map, wanted_.map);
    kernels.forward({problem_, nullptr, sums.data(), false});
    expect_sums("sums", sums, false);
    kernels.forward({problem_, nullptr, sums.data(), true});
    expect_sums("sums and errors", sums, true);
  }

  SsimBackward backward() const {
    SsimBackward p{};
    static_cast<SsimProblem&>(p) = problem_;
    p.grad_x_strides = p.grad_y_strides = strides_of(case_);
    return p;
  }

  // The gradients agree with differences of Σ grad·map + Σ grad·sums.
  void expect_slopes(const std::string& what, const Values& grad_map,
                     const Values& grad_sums, const Values& grad_x,
                     const Values& grad_y) {
    const auto loss_at = [&](const Images& images) {
      const Forward result = forward_of(problem_, images);
      return dot(grad_map, result.map) + dot(grad_sums, result.sums);
    };
    const double step = 1e-7 * case_.data_range;
    for (int i = 0; i < 2; ++i) {
      const Images along{random_.normal(case_.count(), 0, 1),
                         random_.normal(case_.count(), 0, 1),
                         {}};
      const double slope = (loss_at(images_.moved(step, along)) -
                            loss_at(images_.moved(-step, along))) /
                           (2 * step);
      const double got = dot(grad_x, along.x) + dot(grad_y, along.y);
      // Central differences are accurate to some 1e-8 of the loss's terms.
      const double scale = std::sqrt(dot(grad_x, grad_x) + dot(grad_y, grad_y));
      const double tolerance = 2e-6 + 10 * tolerance_of<T>();
      if (!(std::abs(got - slope) <= tolerance * scale)) {
        std::fprintf(stderr, "%s: slope %.10g, not %.10g, %g\n",
                     name(what).c_str(), got, slope, scale);
        std::exit(1);
      }
    }
  }

  void backward_of_map() {
    const Values grad = random_.normal(wanted_.map.size(), 0, 1);
    SsimBackward p = backward();
    p.grad_of_map = true;
    expect_backward("gradient of the map", p, grad, grad, {});
  }

  void backward_of_sums() {
    const Values grad =
        random_.normal(problem_.planes() * SsimSums::kCount, 0, 1);
    SsimBackward p = backward();
    p.errors = true;
    expect_backward("gradient of the sums", p, grad, {}, grad);
  }

  // The gradients of both images, given `grad`, which is one of the other two.
  void expect_backward(const std::string& what, SsimBackward p,
                       const Values& grad, const Values& grad_map,
                       const Values& grad_sums) {
    const auto grad_typed = convert<Sum>(grad);
    auto grad_x = unwritten<T>(case_.count()), grad_y = grad_x;
    p.grad = grad_typed.data();
    p.grad_x = grad_x.data();
    p.grad_y = grad_y.data();
    ssim_cpu_kernels_in_use().backward(p);
    expect_slopes(what, grad_map, grad_sums, in_order(case_, grad_x),
                  in_order(case_, grad_y));
  }

  // Both passes at once, with gradients of both images, of x, and of y.
  void forward_backward() {
    const double grads[SsimSums::kCount] = {-0.7, 0, 0.02, 0.3};
    Values grad_sums;
    for (int64_t plane = 0; plane < problem_.planes(); ++plane) {
      grad_sums.insert(grad_sums.end(), grads, grads + SsimSums::kCount);
    }
    auto grad_x = unwritten<T>(case_.count()), grad_y = grad_x;
    auto only_x = grad_x, only_y = grad_x;
    for (int images = 0; images < 3; ++images) {
      auto sums = unwritten_sums();
      SsimBackward p = backward();
      std::copy(grads, grads + SsimSums::kCount, p.constant_grad);
      p.errors = true;
      p.grad_x = images == 0   ? grad_x.data()
                 : images == 1 ? only_x.data()
                               : nullptr;
      p.grad_y = images == 0   ? grad_y.data()
                 : images == 2 ? only_y.data()
                               : nullptr;
      ssim_cpu_kernels_in_use().forward_backward(
          {{problem_, nullptr, sums.data(), true}, p});
      expect_sums("sums beside the gradients", sums, true);
    }
    expect_slopes("gradients beside the sums", {}, grad_sums,
                  in_order(case_, grad_x), in_order(case_, grad_y));
    expect_close(name("gradient of x alone"), only_x,
                 Values(grad_x.begin(), grad_x.end()));
    expect_close(name("gradient of y alone"), only_y,
                 Values(grad_y.begin(), grad_y.end()));
  }

  // Masked pixels take no part, whatever they hold.
  void masked_pixels_take_no_part() {
    for_each_pixel(case_, [&](int64_t i, int64_t offset) {
      if (!images_.valid[i]) x_[offset] = y_[offset] = static_cast<T>(NAN);
    });
    auto map = unwritten<Sum>(wanted_.map.size());
    ssim_cpu_kernels_in_use().forward({problem_, map.data(), nullptr, false});
    expect_close(name("map beside masked NaN"), map, wanted_.map);
    auto sums = unwritten_sums();
    auto grad_x = unwritten<T>(case_.count()), grad_y = grad_x;
    SsimBackward p = backward();
    p.constant_grad[SsimSums::kIndex] = 1;
    p.grad_x = grad_x.data();
    p.grad_y = grad_y.data();
    ssim_cpu_kernels_in_use().forward_backward(
        {{problem_, nullptr, sums.data(), false}, p});
    expect_sums("sums beside masked NaN", sums, false);
    for_each_pixel(case_, [&](int64_t i, int64_t offset) {
      const double x = static_cast<double>(grad_x[offset]);
      const double y = static_cast<double>(grad_y[offset]);
      const bool right =
          images_.valid[i] ? std::isfinite(x + y) : x == 0 && y == 0;
      if (right) return;
      std::fprintf(stderr, "%s: %g and %g\n",
                   name("gradients beside masked NaN").c_str(), x, y);
      std::exit(1);
    });
  }

  std::string name(const std::string& what) const {
    return std::string(case_.name) + ", type " +
           std::to_string(static_cast<int>(problem_.dtype)) + ", " + what;
  }

  const Case case_;
  Random random_;
  Images images_;
  std::vector<T> x_, y_;
  std::vector<unsigned char> mask_;
  SsimProblem problem_;
  Forward wanted_;
};

// The numbers of parts lie around the number of threads. A sum of weight 0 may
// be anything.
template <typename T>
void test_total(DType dtype) {
  for (const int parts : {0, 1, 511, 513, 1500}) {
    std::vector<T> of_parts(parts * SsimSums::kCount), total(1), sums(4);
    std::vector<double> expected(SsimSums::kCount);
    for (int i = 0; i < parts * SsimSums::kCount; ++i) {
      const int which = i % SsimSums::kCount;
      of_parts[i] = which == 1 ? T(NAN) : static_cast<T>(std::cos(i));
      expected[which] += of_parts[i];
    }
    SsimTotal p{};
    p.dtype = dtype;
    p.parts = parts;
    p.of_parts = of_parts.data();
    p.total = total.data();
    p.sums = sums.data();
    const double weights[SsimSums::kCount] = {0.5, 0, -2, 1};
    std::copy_n(weights, SsimSums::kCount, p.weights);
    ssim_cpu_kernels_in_use().total(p);
    const std::string name = "total of " + std::to_string(parts) + " parts";
    const double wanted = 0.5 * expected[0] - 2 * expected[2] + expected[3];
    expect_close(name, total, std::vector<double>{wanted});
    expect_close(name + ", sums", std::vector<T>{sums[0], sums[2], sums[3]},
                 std::vector<double>{expected[0], expected[2], expected[3]});
  }
}

// Taps that are rounded to float32 still have the sum 1.
void test_taps(int count, double sigma) {
  SsimTaps taps{};
  taps.count = count;
  double sum = 0;
  for (int t = 0; t < count; ++t) {
    const double distance = (t - count / 2) / sigma;
    taps.weights[t] = std::exp(-distance * distance / 2);
    sum += taps.weights[t];
  }
  double rounded = 0;
  std::vector<float> got;
  Values wanted;
  for (int t = 0; t < count; ++t) wanted.push_back(taps.weights[t] /= sum);
  const ssim::Taps<float> floats(taps);
  for (int t = 0; t < count; ++t) {
    got.push_back(floats.weights[t]);
    rounded += floats.weights[t];
  }
  const std::string name = std::to_string(count) + " taps";
  expect_close(name, got, wanted);
  if (std::abs(rounded - 1) < 1e-8) return;
  std::fprintf(stderr, "%s: sum 1 + %g\n", name.c_str(), rounded - 1);
  std::exit(1);
}

}  // namespace

void test_ssim() {
  for (int count = 3; count <= SsimTaps::kMost; count += 2) {
    for (const double sigma : {0.3, 0.5, 1.0, 1.5, 4.0, 1e6}) {
      test_taps(count, sigma);
    }
  }
  test_total<float>(DType::kBFloat16);
  test_total<double>(DType::kFloat64);
  const Layout last = Layout::kChannelsLast, first = Layout::kContiguous;
  const auto index = SsimComponent::kIndex;
  const auto structure = SsimComponent::kContrastStructure;
  const auto luminance = SsimComponent::kLuminance;
  const Case cases[] = {
      {"one window", 1, 1, 11, 11, 11},
      {"small images", 3, 2, 13, 12, 11},
      {"channels last", 2, 3, 20, 31, 11, 0, false, index, 1, last},
      {"several tiles", 1, 1, 45, 290, 11},
      {"last tile without a window", 1, 1, 18, 742, 11},
      {"border", 1, 1, 38, 255, 11, 5, false, index, 255},
      {"wide border", 1, 1, 9, 12, 11, 12},
      {"image within the border", 1, 1, 3, 4, 11, 10},
      {"contrast and structure", 1, 1, 30, 40, 11, 0, false, structure, 2},
      {"luminance", 1, 1, 30, 40, 11, 0, false, luminance, 2},
      {"masked luminance", 1, 1, 20, 40, 5, 0, true, luminance},
      {"wide window", 1, 1, 20, 75, 3, 1, false, index, 1, first, 11, 5},
      {"high window", 1, 1, 40, 33, 11, 5, true, index, 1, first, 7, 2},
      {"mask", 1, 2, 33, 60, 11, 0, true, index, 2, last},
      {"mask and border", 1, 1, 20, 60, 11, 5, true, structure},
      {"small window", 1, 2, 9, 70, 3, 1},
      {"large window", 1, 1, 36, 33, 31},
      {"large window and mask", 1, 1, 31, 35, 31, 15, true}};
  for (const Case& c : cases) {
    Test<float>(c, DType::kFloat32).run();
    Test<double>(c, DType::kFloat64).run();
    Test<c10::BFloat16>(c, DType::kBFloat16).run();
    Test<c10::Half>(c, DType::kFloat16).run();
  }
}

}  // namespace vtadl
