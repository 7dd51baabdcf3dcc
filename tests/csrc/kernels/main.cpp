#include <cstdio>

namespace vtadl {
void test_gmm();
void test_scale();
void test_ssim();
}  // namespace vtadl

int main() {
  vtadl::test_gmm();
  vtadl::test_scale();
  vtadl::test_ssim();
  std::puts("all kernels agree with the formulas");
}
