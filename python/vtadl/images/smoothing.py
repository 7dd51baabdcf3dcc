"""Gaussian filters as products with matrices."""

import math

import torch
from torch import Tensor


def smooth(images: Tensor, sigma: float) -> Tensor:
    """Applies a Gaussian filter of `sigma` pixels to images [*, H, W], mirrored at the border."""
    if sigma < 0.05:  # the weight of a neighbour is below e^-200
        return images
    rows, columns = (averaging_matrix(size, 1, sigma, images.device) for size in images.shape[-2:])
    return rows.to(images) @ images @ columns.T.to(images)


def averaging_matrix(size: int, cell: int, sigma: float, device: torch.device | None = None) -> Tensor:
    """The matrix [size / cell, size] that filters a line, mirrored at its ends, and averages over cells."""
    radius = min(math.ceil(3 * sigma), size - 1)
    offsets = torch.arange(-radius, radius + 1, device=device)
    weights = torch.softmax(-0.5 * (offsets / sigma).square(), dim=0)
    positions = (torch.arange(size, device=device)[:, None] + offsets).abs()
    positions = torch.where(positions < size, positions, 2 * (size - 1) - positions)
    matrix = torch.zeros(size, size, device=device).scatter_add(1, positions, weights.expand(size, -1))
    return matrix.view(-1, cell, size).mean(1)
