"""Pieces of photographs of this and that, from the files of scikit-image itself."""

import numpy as np
import torch
import torch.nn.functional as F
from skimage import color
from skimage import data as photographs
from torch import Tensor

# None of the textures that the demo is tested on, and none that needs a download.
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
_LARGEST_SCALE = 3  # pixels a side that are averaged to one


def make_pieces(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Pieces [N, 3, H, W] in [0, 1] of photographs, in full size or averaged over 2 x 2 or 3 x 3 pixels."""
    rng = np.random.default_rng(seed)
    pictures = [_load(name) for name in _NAMES]
    return torch.cat([_piece(pictures[rng.integers(len(pictures))], size, rng) for _ in range(count)])


def _load(name: str) -> Tensor:
    picture = getattr(photographs, name)()
    if picture.ndim == 2:
        picture = color.gray2rgb(picture)
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def _piece(picture: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """A random piece [1, 3, H, W]; pictures that are smaller are stretched to it."""
    whole = (picture.shape[-2], picture.shape[-1])
    fitting = min(have // want for have, want in zip(whole, size, strict=True))
    if fitting < 1:
        return F.interpolate(picture, size, mode="bilinear", antialias=True)
    scale = int(rng.integers(1, min(fitting, _LARGEST_SCALE) + 1))
    top, left = (rng.integers(have - scale * want + 1) for have, want in zip(whole, size, strict=True))
    return F.avg_pool2d(picture[..., top : top + scale * size[0], left : left + scale * size[1]], scale)
