"""The parametrisations of the scale outside of the kernels: for samples, and for a new head."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class _ScaleParam(NamedTuple):
    std: Callable[[Tensor], Tensor]  # the standard deviation that `scale` stands for; NaN where that is none
    raw: Callable[[float], float]  # what `scale` holds for a standard deviation


_SCALE_PARAMS = {
    "log_std": _ScaleParam(torch.exp, math.log),
    "std": _ScaleParam(lambda scale: scale.masked_fill(scale < 0, math.nan), lambda std: std),
    "log_var": _ScaleParam(lambda scale: (0.5 * scale).exp(), lambda std: 2 * math.log(std)),
    "var": _ScaleParam(torch.sqrt, lambda std: std * std),
    "softplus": _ScaleParam(
        lambda scale: torch.logaddexp(scale, torch.zeros_like(scale)),
        lambda std: std + math.log(-math.expm1(-std)),
    ),
    # The precision -0 has an infinite standard deviation, too, and not a negative one.
    "precision": _ScaleParam(lambda scale: scale.rsqrt().abs(), lambda std: 1 / (std * std)),
}

# This is computed once, because a head may be made where tensors hold no values, as on the device "meta".
_ZERO_IS_A_SCALE = {
    name: 0 < float(param.std(torch.zeros((), device="cpu"))) < math.inf
    for name, param in _SCALE_PARAMS.items()
}


def zero_is_a_scale(scale_param: str) -> bool:
    """Whether a `scale` of 0 stands for a positive, finite standard deviation."""
    return _ZERO_IS_A_SCALE[scale_param]


def standard_deviation(scale: Tensor, scale_param: str, min_std: float) -> Tensor:
    return _SCALE_PARAMS[scale_param].std(scale).clamp(min=min_std)


def raw_scale(std: float, scale_param: str) -> float:
    return _SCALE_PARAMS[scale_param].raw(std)
