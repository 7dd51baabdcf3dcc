// The vector functions agree with those of the C library in double or long
// double precision, on a dense grid over all floats and on special values.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "common/cpu_dispatch.h"
#include "simd_functions.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(SimdTables, simd_tables)

namespace {

constexpr double kMaxUlp = 2;

// The distance of two results in units of the last place of the expected one.
template <typename T, typename Wide>
double ulp_distance(T got, Wide wanted) {
  const T rounded = static_cast<T>(wanted);
  if (std::isnan(rounded)) return std::isnan(got) ? 0 : INFINITY;
  if (std::isinf(rounded) || std::isinf(got)) {
    return got == rounded ? 0 : INFINITY;
  }
  const T size = std::fabs(rounded);
  const T ulp = std::nextafter(size, std::numeric_limits<T>::infinity()) - size;
  return static_cast<double>(std::fabs(static_cast<Wide>(got) - wanted) /
                             static_cast<Wide>(ulp));
}

template <typename T, typename Wide>
void check(const char* name, ArrayFunction<T> function, Wide (*reference)(Wide),
           const std::vector<T>& x) {
  std::vector<T> y(x.size());
  function(x.data(), y.data(), static_cast<int>(x.size()));
  double worst = 0;
  T at = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double distance =
        ulp_distance<T, Wide>(y[i], reference(static_cast<Wide>(x[i])));
    if (distance > worst) {
      worst = distance;
      at = x[i];
    }
  }
  std::printf("%s: %zu numbers, at most %.3f ULP, at %.9g\n", name, x.size(),
              worst, static_cast<double>(at));
  if (worst > kMaxUlp) std::exit(1);
}

// 0, -0, 1 and the floats whose bits lie in [first, last), `step` apart.
std::vector<float> floats(std::uint32_t first, std::uint32_t last,
                          std::uint32_t step) {
  std::vector<float> result = {0.0f, -0.0f, 1.0f};
  for (std::uint64_t bits = first; bits < last; bits += step) {
    const auto narrow = static_cast<std::uint32_t>(bits);
    float value;
    std::memcpy(&value, &narrow, sizeof value);
    result.push_back(value);
  }
  return result;
}

std::vector<float> all_floats() {
  std::vector<float> result = floats(0, 0xffffffffu, 251);
  for (const float value : {INFINITY, -INFINITY, NAN, -NAN, 1e-45f, -1e-45f,
                            88.72284f, -103.97208f, 3.4028235e38f}) {
    result.push_back(value);
  }
  return result;
}

std::vector<double> doubles(double first, double last) {
  std::vector<double> result = {first, last, 0.0};
  const int count = 1000000;
  for (int i = 0; i < count; ++i) {
    result.push_back(first + (last - first) * i / count);
  }
  return result;
}

template <typename Wide>
Wide softplus(Wide x) {
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

void check_conversions(bool bfloat) {
  const int count = 1 << 16;
  std::vector<unsigned short> bits(count), back(count);
  std::vector<float> values(count);
  for (int i = 0; i < count; ++i) bits[i] = static_cast<unsigned short>(i);
  simd_tables_in_use().convert(bfloat, bits.data(), values.data(), back.data(),
                               count - 3);  // the last vector is not whole
  for (int i = 0; i < count - 3; ++i) {
    const float wanted =
        bfloat ? static_cast<float>(
                     c10::BFloat16(bits[i], c10::BFloat16::from_bits()))
               : static_cast<float>(c10::Half(bits[i], c10::Half::from_bits()));
    const bool same = std::isnan(wanted)
                          ? std::isnan(values[i])
                          : values[i] == wanted && back[i] == bits[i];
    if (!same) {
      std::printf("half-precision bits %x became %g and %x\n", i, values[i],
                  back[i]);
      std::exit(1);
    }
  }
}

}  // namespace
}  // namespace vtadl

int main() {
  using namespace vtadl;
  const SimdFunctions<float>& f = simd_tables_in_use().floats;
  const SimdFunctions<double>& d = simd_tables_in_use().doubles;
  const auto all = all_floats();
  check<float, double>("exp", f.exp, std::exp, all);
  check<float, double>("log", f.log, std::log, all);
  check<float, double>("softplus", f.softplus, softplus<double>, all);
  check<float, double>("sqrt", f.sqrt, std::sqrt, all);
  check<float, double>("log1p", f.log1p, std::log1p,
                       floats(0, 0x3f800001u, 97));
  check<double, long double>("exp", d.exp, std::exp, doubles(-746, 711));
  check<double, long double>("log", d.log, std::log, doubles(1e-3, 1e3));
  check<double, long double>("log", d.log, std::log, doubles(0, 1e-307));
  check<double, long double>("log1p", d.log1p, std::log1p, doubles(0, 1));
  check<double, long double>("softplus", d.softplus, softplus<long double>,
                             doubles(-740, 50));
  check_conversions(true);
  check_conversions(false);
}
