from typing import TypedDict

class BuildInfo(TypedDict):
    version: str
    torch: str  # what it was compiled against; it runs on every later release too
    compiler: str
    cuda: str | None  # version of nvcc; None where the CUDA kernels are missing
    cuda_architectures: str
    cpu_capability: str  # "baseline", "avx2" or "avx512": the instructions in use

# The names of the options of mixtures, in the order of their numbers.
SCALE_PARAMS: tuple[str, ...]
MIXTURES: tuple[str, ...]

def build_info() -> BuildInfo: ...
