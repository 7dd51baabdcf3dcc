"""Random crops of the photographs that scikit-image includes."""

import numpy as np
import torch
import torch.nn.functional as F
from skimage import color
from skimage import data as photographs
from torch import Tensor

# The textures that the demo is tested on are left out, and so are photographs that need a download.
_NAMES = (
    "astronaut",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
)
_MAX_DOWNSCALING = 3


def crop_photographs(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Draws crops [N, 3, H, W] in [0, 1], in full size or downscaled by an average over 2x2 or 3x3 pixels."""
    rng = np.random.default_rng(seed)
    loaded = [_load(name) for name in _NAMES]
    return torch.cat([_random_crop(loaded[rng.integers(len(loaded))], size, rng) for _ in range(count)])


def _load(name: str) -> Tensor:
    photograph = getattr(photographs, name)()
    if photograph.ndim == 2:
        photograph = color.gray2rgb(photograph)
    return torch.from_numpy(photograph).permute(2, 0, 1)[None].float() / 255


def _random_crop(photograph: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Draws one crop [1, 3, H, W]; a photograph that is smaller is stretched to that size."""
    full_size = (photograph.shape[-2], photograph.shape[-1])
    max_scale = min(full // crop for full, crop in zip(full_size, size, strict=True))
    if max_scale < 1:
        return F.interpolate(photograph, size, mode="bilinear", antialias=True)
    scale = int(rng.integers(1, min(max_scale, _MAX_DOWNSCALING) + 1))
    top, left = (rng.integers(full - scale * crop + 1) for full, crop in zip(full_size, size, strict=True))
    return F.avg_pool2d(photograph[..., top : top + scale * size[0], left : left + scale * size[1]], scale)
