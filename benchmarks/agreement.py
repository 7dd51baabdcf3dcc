"""Compares the results of a provider with those of the reference."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.case import GRADIENTS, Case, Mode

# So many numbers are compared at once: fresh memory for more would take longer than the comparison.
_BLOCK = 1 << 20
_TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 2e-2, torch.float16: 2e-2}


def reference_outputs(case: Case, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The value, then the gradients of all tensors, in float64."""
    return GRADIENTS(case.reference, GRADIENTS.leaves([tensor.double() for tensor in tensors]))


def error_of(outputs: Sequence[Tensor], reference: Sequence[Tensor], mode: Mode) -> float:
    """The largest relative L2 error among the value and the gradients; NaN counts as infinite."""
    value, *gradients = reference
    wanted = [value, *gradients[mode.differentiated]]
    errors = [_relative_error(*pair) for pair in zip(outputs, wanted, strict=True)]
    return max(math.inf if math.isnan(error) else error for error in errors)


def agrees(error: float, dtype: torch.dtype) -> bool:
    return error < _TOLERANCES[dtype]


def _relative_error(got: Tensor, wanted: Tensor) -> float:
    if got.shape != wanted.shape:
        return math.inf
    difference = norm = 0.0
    for a, b in zip(got.flatten().split(_BLOCK), wanted.flatten().split(_BLOCK), strict=True):
        difference += float((a - b).square().sum())
        norm += float(b.square().sum())
    return math.sqrt(difference / norm) if norm > 0 else float(got.norm())
