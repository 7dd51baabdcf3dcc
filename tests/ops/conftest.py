"""The devices that the operators are tested on.

`emulated` is the CUDA kernels run on the CPU by the emulator in tools/cuda_emulator: their operators are
a library of their own, `torch.ops.vtadl_ext_emulated`, which stands in for `torch.ops.vtadl_ext`.
"""

import os

import pytest
import torch

from vtadl_ext import _binary


def _emulated_operators():
    library = os.environ.get("VTADL_EMULATED_LIBRARY")
    if library is None:
        pytest.skip("VTADL_EMULATED_LIBRARY is not set: run `make test`, which builds the emulated kernels")
    torch.ops.load_library(library)
    return torch.ops.vtadl_ext_emulated


# Without a GPU, thousands of tests would only be skipped: test_devices.py is skipped for them all.
DEVICES = ["cpu", "emulated", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch) -> torch.device:
    """Where the tensors of a test lie; for `emulated` that is the CPU."""
    if request.param == "emulated":
        monkeypatch.setattr(_binary, "ops", _emulated_operators())
        return torch.device("cpu")
    return torch.device(request.param)


@pytest.fixture
def compiled_device(device) -> torch.device:
    """As `device`, where the operators' Python side matters too: fake kernels and vmap know one library."""
    if _binary.ops is not torch.ops.vtadl_ext:
        pytest.skip("the emulated operators have no fake kernels and no vmap: these are tested on the CPU")
    return device


@pytest.fixture
def real_device(device) -> torch.device:
    """As `device`, where tensors are too large for the emulator."""
    if _binary.ops is not torch.ops.vtadl_ext:
        pytest.skip("too large for the emulator")
    return device
