"""The options that travel together: those of users, with their checks, and those of the operators."""

from typing import NamedTuple

import torch

from vtadl_ext import _binary
from vtadl_ext._checks import check_number, check_option


class ScaleOptions(NamedTuple):
    """How `scale` is read, and the floor of the standard deviations."""

    scale_param: str
    min_std: float

    def check(self) -> None:
        check_option("scale_param", self.scale_param, _binary.SCALE_PARAMS)
        check_number("min_std", self.min_std, zero_allowed=True)


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
