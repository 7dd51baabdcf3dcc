"""Reductions: from the values of samples or windows to the result of a function."""

import math

import torch
from torch import Tensor


def reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return values.mean()
    return values.sum() if reduction == "sum" else values


def reduce_weighted(values: Tensor, sample_weight: Tensor, reduction: str) -> Tensor:
    """The weighted mean, the weighted sum or the weighted values; samples of weight 0 may hold anything."""
    weight = sample_weight.to(values.dtype).expand_as(values)
    ignored = (weight == 0) & ~values.isfinite()  # 0 times NaN or infinity would be NaN
    weighted = weight * torch.where(ignored, 0.0, values)
    if reduction != "mean":
        return reduce(weighted, reduction)
    # The gradients of an undefined mean are 0, as those of torch.nn.functional.cross_entropy.
    total = weight.sum()
    return torch.where(total == 0, math.nan, weighted.sum() / torch.where(total == 0, 1.0, total))


def mean_over_windows(total: Tensor, windows: Tensor) -> Tensor:
    """The mean of `total` over so many windows. Without any it is NaN, with gradient 0."""
    return torch.where(windows == 0, math.nan, total / windows.clamp(min=1))
