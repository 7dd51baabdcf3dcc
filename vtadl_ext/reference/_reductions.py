"""Helpers that the references share: widening to at least float32, and reductions."""

import math

import torch
from torch import Tensor


def widen(tensor: Tensor) -> Tensor:
    """The tensor in at least float32, in which sums of half-precision numbers are accurate."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()


def reduce_weighted(values: Tensor, sample_weight: Tensor, reduction: str) -> Tensor:
    """The same with a weight for each value. Values of weight 0 are ignored, NaN too."""
    weight = sample_weight.to(values.dtype)
    values = values.masked_fill((weight == 0) & ~values.isfinite(), 0)  # 0 times NaN would be NaN
    weighted = weight * values
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    # The mean of no values is NaN with gradients 0, as in torch.nn.functional.cross_entropy.
    total = (weight * torch.ones_like(values)).sum()
    return (weighted.sum() / total.masked_fill(total == 0, 1)).masked_fill(total == 0, math.nan)
