// The kernel of scale_ agrees with the multiplication written out.
#include "scale/scale.h"

#include "check.h"
#include "common/cpu_dispatch.h"

namespace vtadl {

VTADL_CPU_KERNEL_TABLE(ScaleCpuKernels, scale_cpu_kernels)

namespace {

template <typename Scalar>
void test(DType dtype, std::int64_t count, double factor) {
  Random random(2);
  const Accumulate<Scalar> number = static_cast<Accumulate<Scalar>>(factor);
  auto values = convert<Scalar>(random.normal(count, 0, 1));
  Values expected;
  for (const Scalar value : values) {
    expected.push_back(static_cast<double>(value) * factor);
  }
  scale_cpu_kernels_in_use().scale({dtype, count, values.data(), &number});
  expect_close("scale_ by " + std::to_string(factor), values, expected);
}

}  // namespace

void test_scale() {
  for (const double factor : {1.0, 2.5}) {
    for (const std::int64_t count : {0, 1, 1000, 70001}) {
      test<float>(DType::kFloat32, count, factor);
      test<double>(DType::kFloat64, count, factor);
      test<c10::BFloat16>(DType::kBFloat16, count, factor);
      test<c10::Half>(DType::kFloat16, count, factor);
    }
  }
}

}  // namespace vtadl
