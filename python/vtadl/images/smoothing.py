"""Reductions and averages of maps."""

import math

import torch
from torch import Tensor


def smooth(images: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of `sigma` pixels over images [*, H, W], mirrored at the border."""
    if sigma < 0.05:  # neighbours would weigh less than e^-200
        return images
    rows, columns = (averaging_matrix(size, 1, sigma, images.device) for size in images.shape[-2:])
    return rows.to(images) @ images @ columns.T.to(images)


def averaging_matrix(size: int, cell: int, sigma: float, device: torch.device | None = None) -> Tensor:
    """The matrix [size / cell, size] that filters a line, mirrored at its ends, and averages its cells."""
    radius = min(math.ceil(3 * sigma), size - 1)
    offsets = torch.arange(-radius, radius + 1, device=device)
    weights = torch.softmax(-0.5 * (offsets / sigma).square(), dim=0)
    places = (torch.arange(size, device=device)[:, None] + offsets).abs()
    places = torch.where(places < size, places, 2 * (size - 1) - places)
    matrix = torch.zeros(size, size, device=device).scatter_add(1, places, weights.expand(size, -1))
    return matrix.view(-1, cell, size).mean(1)
