// Tests the kernels of the operators that the arguments name, or of all.
#include <cstdio>
#include <cstring>

namespace vtadl {
void test_gmm();
void test_scale();
void test_ssim();
}  // namespace vtadl

namespace {

struct Operator {
  const char* name;
  void (*test)();
};

constexpr Operator kOperators[] = {{"gmm", &vtadl::test_gmm},
                                   {"scale", &vtadl::test_scale},
                                   {"ssim", &vtadl::test_ssim}};

bool test(const char* name) {
  bool known = false;
  for (const Operator& each : kOperators) {
    if (name && std::strcmp(name, each.name) != 0) continue;
    each.test();
    known = true;
  }
  if (!known) std::fprintf(stderr, "%s is no operator\n", name);
  return known;
}

}  // namespace

int main(int count, char** names) {
  if (count == 1) test(nullptr);
  for (int i = 1; i < count; ++i) {
    if (!test(names[i])) return 2;
  }
  std::puts("all kernels agree with the formulas");
}
