"""What the references share: sums in at least float32, and reductions."""

import math

import torch
from torch import Tensor


def widen(tensor: Tensor) -> Tensor:
    """At least float32: sums of half-precision numbers in half precision are worthless."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()


def reduce_weighted(values: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """The same under a weight of each; what has none is left out, whatever it is."""
    weight = weight.to(values.dtype)
    values = values.masked_fill((weight == 0) & ~values.isfinite(), 0)  # times 0 it would be NaN
    weighted = weight * values
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    # The mean of none is NaN, with gradients 0, as that of torch.nn.functional.cross_entropy.
    total = (weight * torch.ones_like(values)).sum()
    return (weighted.sum() / total.masked_fill(total == 0, 1)).masked_fill(total == 0, math.nan)
