"""Reductions of maps."""

import torch
import torch.nn.functional as F
from torch import Tensor


def largest_mean(values: Tensor, count: int) -> Tensor:
    """Mean of the `count` largest values of each row [B, M], or of all if there are fewer."""
    return values.topk(min(count, values.shape[1])).values.mean(1)


def smooth(images: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of `sigma` pixels over images [B, 1, H, W], mirrored at the border."""
    if sigma == 0:
        return images
    for dim in (-2, -1):
        radius = min(int(3 * sigma + 0.5), images.shape[dim] - 1)
        offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        weights = torch.softmax(-0.5 * (offsets / sigma).square(), dim=0)
        rows = F.pad(images.movedim(dim, -1), (radius, radius, 0, 0), mode="reflect")
        images = F.conv2d(rows, weights.view(1, 1, 1, -1)).movedim(-1, dim)
    return images
