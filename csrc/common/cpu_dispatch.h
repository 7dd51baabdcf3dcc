// The choice of the instruction set whose kernels run, when the library is
// loaded.
#pragma once

#include <string>

namespace vtadl {

enum class CpuCapability { kBaseline, kAvx2, kAvx512 };

// The best instruction set of this processor and this build; the environment
// variable VTADL_CPU_CAPABILITY (baseline, avx2 or avx512) lowers the choice.
CpuCapability cpu_capability();

std::string name(CpuCapability capability);

}  // namespace vtadl

// Declares the table of kernels that each instruction set defines, and
// TABLE##_in_use(), which returns the chosen one. Kernels stand in tables and
// do not register themselves, because code that is compiled for an instruction
// set must not run while the library loads.
#ifdef VTADL_X86_KERNELS
#define VTADL_CPU_KERNEL_TABLE(TYPE, TABLE) \
  namespace baseline {                      \
  extern const TYPE TABLE;                  \
  }                                         \
  namespace avx2 {                          \
  extern const TYPE TABLE;                  \
  }                                         \
  namespace avx512 {                        \
  extern const TYPE TABLE;                  \
  }                                         \
  inline const TYPE& TABLE##_in_use() {     \
    switch (cpu_capability()) {             \
      case CpuCapability::kAvx512:          \
        return avx512::TABLE;               \
      case CpuCapability::kAvx2:            \
        return avx2::TABLE;                 \
      default:                              \
        return baseline::TABLE;             \
    }                                       \
  }
#else
#define VTADL_CPU_KERNEL_TABLE(TYPE, TABLE) \
  namespace baseline {                      \
  extern const TYPE TABLE;                  \
  }                                         \
  inline const TYPE& TABLE##_in_use() { return baseline::TABLE; }
#endif
