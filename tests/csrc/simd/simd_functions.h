// The vector functions, applied to arrays.
#pragma once

namespace vtadl {

template <typename T>
using ArrayFunction = void (*)(const T* x, T* y, int count);

template <typename T>
struct SimdFunctions {
  ArrayFunction<T> exp, log, log1p, softplus, sqrt;
};

struct SimdTables {
  SimdFunctions<float> floats;
  SimdFunctions<double> doubles;
  // bfloat16 or half-precision numbers, as bits, to floats and back.
  void (*convert)(bool bfloat, const unsigned short* from, float* to,
                  unsigned short* back, int count);
};

}  // namespace vtadl
