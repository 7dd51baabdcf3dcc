#include "common/cpu_dispatch.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace vtadl {

namespace {

CpuCapability supported_capability() {
#ifdef VTADL_X86_KERNELS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return CpuCapability::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return CpuCapability::kAvx2;
  }
#endif
  return CpuCapability::kBaseline;
}

CpuCapability allowed_capability() {
  const char* text = std::getenv("VTADL_CPU_CAPABILITY");
  if (text == nullptr) return CpuCapability::kAvx512;
  for (const CpuCapability capability :
       {CpuCapability::kBaseline, CpuCapability::kAvx2,
        CpuCapability::kAvx512}) {
    if (name(capability) == text) return capability;
  }
  throw std::invalid_argument(std::string("VTADL_CPU_CAPABILITY is \"") + text +
                              "\"; it must be baseline, avx2 or avx512");
}

}  // namespace

CpuCapability cpu_capability() {
  static const CpuCapability chosen =
      std::min(supported_capability(), allowed_capability());
  return chosen;
}

std::string name(CpuCapability capability) {
  switch (capability) {
    case CpuCapability::kAvx512:
      return "avx512";
    case CpuCapability::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace vtadl
