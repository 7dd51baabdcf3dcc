"""The photographs of scikit-image, for tests on images that are no noise."""

from functools import cache

import numpy as np
import skimage.data
import torch
from torch import Tensor

PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "cat", "cell", "clock", "coffee", "coins", "grass", "gravel"),
    *(
        "hubble_deep_field",
        "immunohistochemistry",
        "microaneurysms",
        "moon",
        "page",
        "retina",
        "rocket",
        "text",
    ),
)


@cache
def photograph(name: str, side: int = 256) -> Tensor:
    """The middle of a photograph as bytes, ``[C, H, W]``, with sides of at most `side` pixels."""
    pixels = np.atleast_3d(getattr(skimage.data, name)())
    top, left = (max(0, (size - side) // 2) for size in pixels.shape[:2])
    return torch.from_numpy(pixels[top : top + side, left : left + side].copy()).permute(2, 0, 1).contiguous()


def noisy(image: Tensor, noise: float = 12.0, seed: int = 0) -> Tensor:
    """A copy of an image of bytes with noise of this standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    return (
        (image + noise * torch.randn(image.shape, generator=generator)).round().clamp(0, 255).to(torch.uint8)
    )
