"""The options that travel together: those of users, with their checks, and those of the operators."""

from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from vtadl_ext import _binary
from vtadl_ext._checks import check_number, check_option
from vtadl_ext._padding import PADDINGS

_WINDOWS = ("gaussian", "uniform")
_MAX_WINDOW_SIZE = 31


class ScaleOptions(NamedTuple):
    """How `scale` is read, and the floor of the standard deviations."""

    scale_param: str
    min_std: float

    def check(self) -> None:
        check_option("scale_param", self.scale_param, _binary.SCALE_PARAMS)
        check_number("min_std", self.min_std, zero_allowed=True)


class SSIMOptions(NamedTuple):
    """The window, the constants of the index, and the padding."""

    data_range: float
    window: str
    window_size: int
    window_sigma: float
    k1: float
    k2: float
    padding: str = "valid"

    def check(self) -> None:
        check_option("window", self.window, _WINDOWS)
        size = self.window_size
        if isinstance(size, bool) or not isinstance(size, Integral):
            raise TypeError(f"window_size must be an integer, got {size!r}")
        if size % 2 == 0 or not 3 <= size <= _MAX_WINDOW_SIZE:
            raise ValueError(f"window_size must be odd and from 3 to {_MAX_WINDOW_SIZE}, got {size}")
        for name in ("data_range", "window_sigma", "k1", "k2"):
            check_number(name, getattr(self, name))
        check_option("padding", self.padding, PADDINGS)


class GMMKernelOptions(NamedTuple):
    """The options of the operators of Gaussian mixtures, in their order."""

    scale_param: int  # index among SCALE_PARAM_NAMES
    min_std: float
    mixture: int  # index among MIXTURE_NAMES


class HeadOptions(NamedTuple):
    """The options of the operators of a linear head, in their order."""

    num_components: int
    shared_scale: bool
    dtype: torch.dtype  # of the products
    memory_budget: int | None
    scale_param: int
    min_std: float
    mixture: int

    def of_likelihood(self) -> GMMKernelOptions:
        return GMMKernelOptions(self.scale_param, self.min_std, self.mixture)


class SSIMKernelArguments(NamedTuple):
    """The arguments that all operators of SSIM share, in their order."""

    x: Tensor  # [N, C, H, W]
    y: Tensor
    mask: Tensor | None
    taps: Sequence[float]  # of the one-dimensional window
    data_range: float
    k1: float
    k2: float
    border: int  # pixels of zeros around the image
    luminance: bool  # whether the index has the factor of the means


class SSIMKernelOptions(NamedTuple):
    """The arguments of ssim_forward and ssim_backward behind the tensors, in their order."""

    taps: Sequence[float]
    data_range: float
    k1: float
    k2: float
    border: int
    luminance: bool
    map: bool  # whether the result is the index of each window, and not sums over each plane
    errors: bool  # whether the sums are those of the errors, too
