// Random inputs, and the comparison of results with the values wanted.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "common/dispatch.h"

using Values = std::vector<double>;

// Draws numbers from a normal distribution, the same on every run.
class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}

  Values normal(std::int64_t count, double mean, double std) {
    std::normal_distribution<double> distribution(mean, std);
    Values values(count);
    for (double& value : values) value = distribution(engine_);
    return values;
  }

 private:
  std::mt19937 engine_;
};

template <typename T>
std::vector<T> convert(const Values& values) {
  std::vector<T> result;
  for (const double value : values) result.push_back(static_cast<T>(value));
  return result;
}

// Memory for results, filled with NaN so that a test sees what a kernel does
// not write.
template <typename T>
std::vector<T> unwritten(std::int64_t count) {
  return std::vector<T>(count, static_cast<T>(NAN));
}

// The relative error that rounding of products and results may cause.
template <typename T>
double tolerance_of() {
  if (std::is_same_v<T, c10::BFloat16>) return 4e-3;
  if (std::is_same_v<T, c10::Half>) return 5e-4;
  return sizeof(T) == 8 ? 1e-11 : 1e-5;
}

template <typename T>
void expect_close(const std::string& name, const std::vector<T>& got,
                  const Values& wanted) {
  const double tolerance = tolerance_of<T>();
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - wanted[i], 2);
    norm += std::pow(wanted[i], 2);
  }
  // The condition is written so that NaN fails.
  if (got.size() == wanted.size() && error <= tolerance * tolerance * norm) {
    return;
  }
  std::fprintf(stderr, "%s: relative error %g of %zu values\n", name.c_str(),
               std::sqrt(error / norm), got.size());
  std::exit(1);
}
