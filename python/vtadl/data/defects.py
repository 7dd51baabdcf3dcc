"""Synthetic defects that are painted into grey images of textures."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skimage import draw
from skimage.morphology import dilation, disk

GreyImage = NDArray[np.float32]  # [H, W] in [0, 1]
Mask = NDArray[np.bool_]  # [H, W]


def add_patch(image: GreyImage, donor: GreyImage, rng: np.random.Generator) -> tuple[GreyImage, Mask]:
    """Replaces an ellipse by the same part of another photograph, the donor."""
    return _paint(image, _random_ellipse(image.shape, rng, 0.12, 0.22), donor)


def add_scratch(image: GreyImage, donor: GreyImage, rng: np.random.Generator) -> tuple[GreyImage, Mask]:
    """Draws a bright or dark curve across the image."""
    height, width = image.shape
    rows, columns = rng.integers(0, height, 2), rng.integers(0, width, 2)
    end = ((rows[0] + height // 2) % height, (columns[0] + width // 2) % width)  # far from the start
    line = np.zeros(image.shape, dtype=np.uint8)
    curve = draw.bezier_curve(rows[0], columns[0], rows[1], columns[1], *end, weight=1, shape=image.shape)
    line[curve] = 1
    mask = dilation(line, disk(max(1, min(height, width) // 64))).astype(bool)
    return _paint(image, mask, np.float32(rng.choice([0.02, 0.98])))


def add_blot(image: GreyImage, donor: GreyImage, rng: np.random.Generator) -> tuple[GreyImage, Mask]:
    """Darkens or brightens the union of three ellipses, and removes most of its texture."""
    first = _random_ellipse(image.shape, rng, 0.06, 0.16)
    rows, columns = np.nonzero(first)
    mask = first.copy()
    for _ in range(2):
        pick = rng.integers(len(rows))
        mask |= _random_ellipse(image.shape, rng, 0.04, 0.1, (rows[pick], columns[pick]))
    colour = np.float32(rng.choice([0.1, 0.9]))
    return _paint(image, mask, 0.7 * colour + 0.3 * image)


Defect = Callable[[GreyImage, GreyImage, np.random.Generator], tuple[GreyImage, Mask]]
DEFECTS: dict[str, Defect] = {"patch": add_patch, "scratch": add_scratch, "blot": add_blot}


def _paint(image: GreyImage, mask: Mask, colour: GreyImage | np.float32) -> tuple[GreyImage, Mask]:
    return np.where(mask, colour, image).astype(np.float32), mask


def _random_ellipse(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    min_radius: float,
    max_radius: float,
    centre: tuple[int, int] | None = None,
) -> Mask:
    """Draws a filled ellipse; its radii are between two fractions of the image's shorter side."""
    row, column = centre or (rng.integers(shape[0]), rng.integers(shape[1]))
    radii = np.maximum(rng.uniform(min_radius, max_radius, 2) * min(shape), 1.5)
    angle = rng.uniform(-np.pi, np.pi)
    mask = np.zeros(shape, dtype=bool)
    mask[draw.ellipse(row, column, radii[0], radii[1], shape=shape, rotation=angle)] = True
    return mask
