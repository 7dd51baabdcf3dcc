"""The compiled binary: its operators, the numbers of their options, and the devices that they serve."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

try:
    from vtadl_ext import _C
except ImportError as error:
    raise ImportError(
        f"vtadl_ext has no compiled binary for this Python and PyTorch ({error}). Build it from the source "
        "folder: pip install --no-build-isolation -e . (PyTorch >= 2.10 and a C++17 compiler are needed)."
    ) from error

build_info = _C.build_info
ops = torch.ops.vtadl_ext
_KERNEL_DEVICES = {"cpu", "meta"} | ({"cuda"} if build_info()["cuda"] else set())
_warned_devices: set[str] = set()

# The operators take an option as its index here. "tril" stands for scale_tril, and "none" asks for log N_k of
# the components alone.
SCALE_PARAM_NAMES, MIXTURE_NAMES = _C.SCALE_PARAMS, _C.MIXTURES
TRIL, NO_MIXTURE = SCALE_PARAM_NAMES.index("tril"), MIXTURE_NAMES.index("none")

# The options of users.
SCALE_PARAMS = tuple(name for name in SCALE_PARAM_NAMES if name != "tril")
MIXTURES = tuple(name for name in MIXTURE_NAMES if name != "none")

# The operators return these sums over each pair of planes: SsimSums in csrc/ssim/ssim.h.
INDEX, WINDOWS, SQUARED_ERRORS, ABSOLUTE_ERRORS = range(4)
SUMS = 4

_reference_alone = False


@contextmanager
def use_reference() -> Iterator[None]:
    """Within this block :mod:`vtadl_ext.reference` replaces all kernels, in all threads.

    A program that is traced within it, by :func:`torch.export.export` for example, consists of PyTorch's own
    operators and runs where vtadl_ext is not installed. :func:`torch.onnx.export` needs no such block.
    """
    global _reference_alone
    before, _reference_alone = _reference_alone, True
    try:
        yield
    finally:
        _reference_alone = before


def has_kernels(device: torch.device, stacklevel: int = 3) -> bool:
    """Whether kernels run on this device now. The first time that a type of device has none, it warns."""
    if _reference_alone or torch.onnx.is_in_onnx_export():
        return False
    if device.type in _KERNEL_DEVICES:
        return True
    if device.type not in _warned_devices:
        _warned_devices.add(device.type)
        advice = (
            "; it was built without CUDA: reinstall with nvcc 12.0 or newer on the PATH and VTADL_CUDA=ON"
            if device.type == "cuda"
            else ""
        )
        warnings.warn(
            f"this build of vtadl_ext has no kernels for {device.type} tensors{advice}. They run "
            "vtadl_ext.reference, which is slower and takes more memory.",
            stacklevel=stacklevel,
        )
    return False


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums over tensors of this dtype."""
    return torch.promote_types(dtype, torch.float32)
