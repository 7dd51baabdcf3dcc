"""What the references share: sums in at least float32, and reductions."""

import torch
from torch import Tensor


def widen(tensor: Tensor) -> Tensor:
    """At least float32: sums of half-precision numbers in half precision are worthless."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()
