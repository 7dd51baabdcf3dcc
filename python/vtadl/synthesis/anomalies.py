"""Synthetic anomalies in normal images, by which settings are chosen without any real anomaly."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.synthesis.backgrounds import make_texture_backgrounds

_TEXTURE_SEED = 1000  # keeps these textures different from those of a background
_MAX_ATTEMPTS = 8
_VISIBLE_CHANGE = 0.05  # mean over the channels; a pixel that changes less is not in the mask
_MAX_BRIGHTNESS_CHANGE = 0.05  # as a fraction
_MAX_NOISE_STD = 0.02


class PseudoAnomalies(NamedTuple):
    """Images with synthetic anomalies, and masks of the changed pixels."""

    images: Tensor  # [N, C, H, W]
    masks: Tensor  # [N, 1, H, W] of 0 and 1


def make_pseudo_anomalies(images: Tensor, seed: int = 0) -> PseudoAnomalies:
    """Adds one anomaly to each of the normal images [N, C, H, W].

    Each anomaly is an ellipse whose shape ranges from a blot to a scratch. It is filled with a shifted part
    of another image, a nearby part of the same image, a single colour, or a procedural texture (after Li et
    al., "CutPaste", CVPR 2021). Ellipses are placed preferably where the image has structure.
    """
    generator = torch.Generator().manual_seed(seed)
    textures = make_texture_backgrounds(images, math.ceil(len(images) / 4), seed + _TEXTURE_SEED)
    pairs = [_add_anomaly(images, textures, index, generator) for index in range(len(images))]
    return PseudoAnomalies(
        torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs])
    )


def photometric_jitter(images: Tensor, seed: int = 0) -> Tensor:
    """Varies the brightness and the noise of normal images [N, C, H, W] as a new recording would.

    A setting that mistakes this variation for an anomaly must not be chosen, however well it detects those of
    :func:`make_pseudo_anomalies`: future images differ from the training images in the same way.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform() -> Tensor:
        return torch.rand(len(images), 1, 1, 1, generator=generator).to(images)

    images = images * (1 + _MAX_BRIGHTNESS_CHANGE * (2 * uniform() - 1))
    noise = torch.randn(len(images), 1, *images.shape[-2:], generator=generator).to(images)
    return (images + _MAX_NOISE_STD * uniform() * noise).clamp(0, 1)


def _add_anomaly(
    images: Tensor, textures: Tensor, index: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns the changed image and its mask; the last attempt counts even if it is barely visible."""
    image = images[index]
    min_area = max(4, image.shape[-2] * image.shape[-1] // 2000)
    for _ in range(_MAX_ATTEMPTS):
        fill, opacity = _random_fill(images, textures, index, generator)
        inside = _random_ellipse(image, generator)
        changed = torch.where(inside, image + opacity * (fill - image), image)
        mask = (changed - image).abs().mean(0, keepdim=True) > _VISIBLE_CHANGE
        if mask.sum() >= min_area:
            break
    return changed, mask.float()


def _random_fill(
    images: Tensor, textures: Tensor, index: int, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Returns the content of the ellipse [C, H, W] and its opacity."""
    image, (height, width) = images[index], images.shape[-2:]
    kind, opacity = _randint(4, generator), 0.4 + 0.6 * _uniform(generator)
    if kind == 0:
        return torch.rand(len(image), 1, 1, generator=generator).to(image).expand_as(image), opacity
    if kind == 3:
        return textures[_randint(len(textures), generator)], 1.0
    source = images[_randint(len(images), generator)] if kind == 1 else image
    max_shift = 1.0 if kind == 1 else 0.25
    shifts = [round((2 * _uniform(generator) - 1) * max_shift * side / 2) for side in (height, width)]
    return source.roll(shifts, dims=(-2, -1)), 1.0


def _random_ellipse(image: Tensor, generator: torch.Generator) -> Tensor:
    """Returns a rotated ellipse [1, H, W] of random size and elongation."""
    height, width = image.shape[-2:]
    row, column = _random_center(image, generator)
    angle = math.pi * _uniform(generator)
    size = 0.04 * 4 ** _uniform(generator)  # mean radius, as a fraction of the shorter side
    elongation = 1 + 3 * _uniform(generator) ** 2
    rows = torch.arange(height, device=image.device)[:, None] - row
    columns = torch.arange(width, device=image.device) - column
    along = rows * math.cos(angle) + columns * math.sin(angle)
    across = columns * math.cos(angle) - rows * math.sin(angle)
    radius = size * min(height, width)
    inside = (along / (radius * elongation)).square() + (across / (radius / elongation)).square()
    return (inside <= 1)[None]


def _random_center(image: Tensor, generator: torch.Generator) -> tuple[int, int]:
    """Draws a row and a column with a probability that grows with the local contrast."""
    grey = image.mean(0)[None, None]
    contrast = (grey - F.avg_pool2d(grey, 9, 1, 4, count_include_pad=False)).abs()
    weight = F.avg_pool2d(contrast, 9, 1, 4).flatten()
    position = torch.multinomial((weight + 0.1 * weight.mean() + 1e-6).cpu(), 1, generator=generator)
    return divmod(int(position), image.shape[-1])


def _uniform(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator).item()


def _randint(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(high, (), generator=generator))
