"""The options that travel together inside the library, with their checks."""

from numbers import Integral
from typing import NamedTuple

from vtadl_ext import _binary
from vtadl_ext._checks import check_number, check_option

_WINDOWS = ("gaussian", "uniform")
_PADDINGS = ("valid", "same", "reflect")
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
        check_option("padding", self.padding, _PADDINGS)
