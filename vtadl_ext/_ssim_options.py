"""The options of SSIM that travel together: those of users, with their checks, and those of the operators."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from vtadl_ext._checks import check_flag, check_number, check_option
from vtadl_ext._padding import PADDINGS
from vtadl_ext._windows import axis_taps, checked_window

Taps = Sequence[Sequence[float]]  # of a window along each axis

COMPONENTS = ("index", "contrast_structure", "luminance")  # in the order of SsimComponent in csrc/ssim/ssim.h


class SSIMOptions(NamedTuple):
    """The window, the constants of the index, the padding, and what is computed."""

    data_range: Any  # of users; a number once the images are prepared
    window: Any
    window_size: Any
    window_sigma: Any
    k1: float
    k2: float
    padding: str = "valid"
    component: str = "index"
    use_sample_covariance: bool = False

    def checked(self) -> "SSIMOptions":
        """The same options with sequences as tuples, once they are checked, all but the data range."""
        window, size, sigma = checked_window(self.window, self.window_size, self.window_sigma)
        for name in ("k1", "k2"):
            check_number(name, getattr(self, name))
        check_option("padding", self.padding, PADDINGS)
        check_option("component", self.component, COMPONENTS)
        check_flag("use_sample_covariance", self.use_sample_covariance)
        return self._replace(window=window, window_size=size, window_sigma=sigma)

    def taps(self, axes: int) -> Taps:
        """The taps of the window along each of the axes of an image or a volume."""
        return axis_taps(self.window, self.window_size, self.window_sigma, axes)

    def kernel_k2(self, taps: Taps) -> float:
        """k2 for the covariances of a population, which are smaller than those of a sample by one factor."""
        if not self.use_sample_covariance:
            return float(self.k2)
        pixels = math.prod([len(axis) for axis in taps])
        return float(self.k2) * math.sqrt((pixels - 1) / pixels)


class SSIMKernelArguments(NamedTuple):
    """The arguments that all operators of SSIM share, in their order."""

    x: Tensor  # [N, C, H, W]
    y: Tensor
    mask: Tensor | None
    vertical: Sequence[float]  # the taps of the window down a column
    horizontal: Sequence[float]  # those along a row
    data_range: float
    k1: float
    k2: float
    bordered: bool  # whether zeros surround the image, so that each pixel has a window
    component: int  # index among COMPONENTS


class SSIMKernelOptions(NamedTuple):
    """The arguments of ssim_forward and ssim_backward behind the tensors, in their order."""

    vertical: Sequence[float]
    horizontal: Sequence[float]
    data_range: float
    k1: float
    k2: float
    bordered: bool
    component: int
    map: bool  # whether the result is the index of each window, and not sums over each plane
    errors: bool  # whether the sums are those of the errors, too
