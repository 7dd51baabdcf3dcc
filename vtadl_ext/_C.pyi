from typing import TypedDict

class BuildInfo(TypedDict):
    version: str
    torch: str  # what it was compiled against; it runs on every later release too
    compiler: str
    cuda: str | None  # version of nvcc; None where the CUDA kernels are missing
    cuda_architectures: str
    cpu_capability: str  # "baseline", "avx2" or "avx512": the instructions in use

def build_info() -> BuildInfo: ...
