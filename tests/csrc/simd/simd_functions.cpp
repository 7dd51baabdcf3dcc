// This source is compiled once per instruction set, as the kernels are.
#include "simd_functions.h"

#include "common/simd_memory.h"

namespace vtadl::VTADL_CPU_CAPABILITY {
namespace {

template <typename T, Vector<T> (*kFunction)(Vector<T>)>
void apply(const T* x, T* y, int count) {
  for_each_vector<T>(count, [&](std::int64_t i, int some) {
    store<T>(y + i, kFunction(load<T>(x + i, some)), some);
  });
}

template <typename T>
Vector<T> exp_of(Vector<T> x) {
  return vector_exp(x);
}

template <typename T>
Vector<T> log_of(Vector<T> x) {
  return vector_log(x);
}

template <typename T>
Vector<T> log1p_of(Vector<T> x) {
  return vector_log1p(x);
}

// softplus as gmm/scale_param.h composes it.
template <typename T>
Vector<T> softplus_of(Vector<T> x) {
  const Vector<T> decay = vector_exp(select(x > 0, -x, x));
  return select(x > 0, x, Vector<T>{}) + vector_log1p(decay);
}

template <typename T>
Vector<T> sqrt_of(Vector<T> x) {
  return vector_sqrt(x);
}

template <typename T>
constexpr SimdFunctions<T> kFunctions = {
    apply<T, exp_of<T>>, apply<T, log_of<T>>, apply<T, log1p_of<T>>,
    apply<T, softplus_of<T>>, apply<T, sqrt_of<T>>};

template <typename Half>
void convert_as(const unsigned short* from, float* to, unsigned short* back,
                int count) {
  for_each_vector<float>(count, [&](std::int64_t i, int some) {
    const auto x = load<float>(reinterpret_cast<const Half*>(from) + i, some);
    store<float>(to + i, x, some);
    store<float>(reinterpret_cast<Half*>(back) + i, x, some);
  });
}

void convert(bool bfloat, const unsigned short* from, float* to,
             unsigned short* back, int count) {
  return bfloat ? convert_as<c10::BFloat16>(from, to, back, count)
                : convert_as<c10::Half>(from, to, back, count);
}

}  // namespace

extern const SimdTables simd_tables = {kFunctions<float>, kFunctions<double>,
                                       &convert};

}  // namespace vtadl::VTADL_CPU_CAPABILITY
