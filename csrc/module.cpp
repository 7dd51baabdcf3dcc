// The Python module; loading it registers the operators.
#include <pybind11/pybind11.h>

#include <string>

#include "common/cpu_dispatch.h"
#include "gmm/gmm.h"

namespace {

pybind11::dict build_info() {
  pybind11::dict info;
  info["version"] = VTADL_VERSION;
  info["torch"] = VTADL_TORCH_VERSION;
  info["compiler"] = VTADL_COMPILER;
#ifdef VTADL_WITH_CUDA
  info["cuda"] = VTADL_CUDA_VERSION;
  info["cuda_architectures"] = VTADL_CUDA_ARCHITECTURES;
#else
  info["cuda"] = pybind11::none();
  info["cuda_architectures"] = "";
#endif
  info["cpu_capability"] = vtadl::name(vtadl::cpu_capability());
  return info;
}

// The number of each name is its index.
template <typename Names>
pybind11::tuple tuple_of(const Names& names) {
  pybind11::tuple result(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) result[i] = names[i];
  return result;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.def("build_info", &build_info);
  m.attr("SCALE_PARAMS") = tuple_of(vtadl::kScaleParamNames);
  m.attr("MIXTURES") = tuple_of(vtadl::kMixtureNames);
}
