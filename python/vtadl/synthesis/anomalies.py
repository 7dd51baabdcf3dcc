"""Changes of normal images, to choose settings by without a single real anomaly."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.synthesis.backgrounds import textures_like

_FOREIGN_SEED = 1000  # other textures than those of a background
_TRIES = 8
_VISIBLE = 0.05  # mean change of a pixel that counts
_RETAKE_BRIGHTNESS = 0.05  # largest change, as a fraction
_RETAKE_NOISE = 0.02  # largest standard deviation


class PseudoAnomalies(NamedTuple):
    """Changed images and where they were changed."""

    images: Tensor  # [N, C, H, W]
    masks: Tensor  # [N, 1, H, W] of 0 and 1


def make_pseudo_anomalies(images: Tensor, seed: int = 0) -> PseudoAnomalies:
    """One anomaly in each of the normal images [N, C, H, W].

    An ellipse, from a blot to a scratch, is filled with a part of another image from elsewhere, with a
    part of its own from nearby, with one colour, or with a texture of formulas (after Li et al.,
    "CutPaste", CVPR 2021). It lies where the image has structure.
    """
    generator = torch.Generator().manual_seed(seed)
    foreign = textures_like(images, math.ceil(len(images) / 4), seed + _FOREIGN_SEED)
    pairs = [_change(images, foreign, index, generator) for index in range(len(images))]
    return PseudoAnomalies(
        torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs])
    )


def retake(images: Tensor, seed: int = 0) -> Tensor:
    """Normal images [N, C, H, W] as another take could have given them: brighter or darker, and noisier.

    What takes this for an anomaly is not to be chosen, however well it sees what is made by
    :func:`make_pseudo_anomalies`: the images to come differ from those of training in just this way.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.rand(len(images), 1, 1, 1, generator=generator).to(images)

    images = images * (1 + _RETAKE_BRIGHTNESS * (2 * draw() - 1))
    noise = torch.randn(len(images), 1, *images.shape[-2:], generator=generator).to(images)
    return (images + _RETAKE_NOISE * draw() * noise).clamp(0, 1)


def _change(images: Tensor, foreign: Tensor, index: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The changed image and its mask; the last try is taken even if little can be seen of it."""
    image = images[index]
    smallest = max(4, image.shape[-2] * image.shape[-1] // 2000)
    for _ in range(_TRIES):
        filling, opacity = _filling(images, foreign, index, generator)
        inside = _ellipse(image, generator)
        changed = torch.where(inside, image + opacity * (filling - image), image)
        mask = (changed - image).abs().mean(0, keepdim=True) > _VISIBLE
        if mask.sum() >= smallest:
            break
    return changed, mask.float()


def _filling(images: Tensor, foreign: Tensor, index: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """What the ellipse shows, and how strongly."""
    image, (height, width) = images[index], images.shape[-2:]
    kind, opacity = _integer(4, generator), 0.4 + 0.6 * _uniform(generator)
    if kind == 0:
        return torch.rand(len(image), 1, 1, generator=generator).to(image).expand_as(image), opacity
    if kind == 3:
        return foreign[_integer(len(foreign), generator)], 1.0
    donor = images[_integer(len(images), generator)] if kind == 1 else image
    reach = 1.0 if kind == 1 else 0.25
    shifts = [round((2 * _uniform(generator) - 1) * reach * side / 2) for side in (height, width)]
    return donor.roll(shifts, dims=(-2, -1)), 1.0


def _ellipse(image: Tensor, generator: torch.Generator) -> Tensor:
    """A turned ellipse [1, H, W] of random size and elongation, centred on structure."""
    height, width = image.shape[-2:]
    row, column = _structured_place(image, generator)
    angle = math.pi * _uniform(generator)
    size = 0.04 * 4 ** _uniform(generator)  # mean radius, as a part of the side
    elongation = 1 + 3 * _uniform(generator) ** 2
    rows = torch.arange(height, device=image.device)[:, None] - row
    columns = torch.arange(width, device=image.device) - column
    along = rows * math.cos(angle) + columns * math.sin(angle)
    across = columns * math.cos(angle) - rows * math.sin(angle)
    radius = size * min(height, width)
    inside = (along / (radius * elongation)).square() + (across / (radius / elongation)).square()
    return (inside <= 1)[None]


def _structured_place(image: Tensor, generator: torch.Generator) -> tuple[int, int]:
    grey = image.mean(0)[None, None]
    contrast = (grey - F.avg_pool2d(grey, 9, 1, 4, count_include_pad=False)).abs()
    weight = F.avg_pool2d(contrast, 9, 1, 4).flatten()
    place = torch.multinomial((weight + 0.1 * weight.mean() + 1e-6).cpu(), 1, generator=generator)
    return divmod(int(place), image.shape[-1])


def _uniform(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator).item()


def _integer(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(high, (), generator=generator))
