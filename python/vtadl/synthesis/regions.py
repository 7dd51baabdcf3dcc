"""Where an anomaly lies: regions of random place, size and shape."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MIN_AREA = 0.001  # of the image
MAX_AREA = 0.05
_MIN_PIXELS = 8
_MAX_STRUCTURE = 0.25  # largest part of an image's structure that lies in a region
_NEIGHBOURHOOD = 9  # pixels
_PLACES = 32  # rows and columns of the grid that centres are drawn from
_MARGIN = 3  # pixels around a region


class Region(NamedTuple):
    """A region within a window of the image."""

    rows: slice
    columns: slice
    depth: Tensor  # [h, w]: 0 outside the region, rising from its border to 1
    radius: float  # of a circle of the same area, in pixels

    def opacity(self, softness: float) -> Tensor:
        """Returns a weight [h, w] that rises from 0 at the border to 1 at the depth `softness`."""
        ramp = (self.depth / softness).clamp(max=1)
        return ramp.square() * (3 - 2 * ramp)


class Axes(NamedTuple):
    """Coordinates of a window's pixels [h, w] in units of a region's half axes."""

    along: Tensor
    across: Tensor


Shape = Callable[[Axes, np.random.Generator], Tensor]


def local_contrast(image: Tensor) -> Tensor:
    """Returns the standard deviation [H, W] of the grey levels around each pixel of an image [C, H, W]."""
    grey = image.float().mean(0)[None, None]
    return (_box_mean(grey.square()) - _box_mean(grey).square()).clamp(min=0).sqrt()[0, 0]


def draw_region(contrast: Tensor, shape: Shape, rng: np.random.Generator) -> Region:
    """Draws a region from 0.1 % to 5 % of an image, preferably where its local contrast [H, W] is high.

    A region is at most a quarter of the part that has structure, which is the size of a small object.
    """
    height, width = contrast.shape
    places = F.adaptive_avg_pool2d(contrast[None], (min(_PLACES, height), min(_PLACES, width)))[0]
    places = (places + 0.1 * places.mean() + 1e-6).double().cpu()
    structure = (places.sum().square() / places.square().sum() / places.numel()).item()
    smallest = max(MIN_AREA * contrast.numel(), _MIN_PIXELS)
    largest = max(min(MAX_AREA, _MAX_STRUCTURE * structure) * contrast.numel(), smallest)
    draw_extent = _draw_line_extent if shape is line else _draw_extent
    area, elongation = draw_extent(smallest, largest, min(height, width), rng)
    return _grow_region(contrast, _draw_center(places, contrast.shape, rng), area, elongation, shape, rng)


def ellipse(axes: Axes, rng: np.random.Generator) -> Tensor:
    """Returns the distance from the centre."""
    return torch.hypot(axes.along, axes.across)


def blob(axes: Axes, rng: np.random.Generator) -> Tensor:
    """Returns the distance from the centre, made irregular by smooth noise."""
    noise = smooth_noise(axes.along.shape, int(rng.integers(3, 9)), rng).to(axes.along)
    return (ellipse(axes, rng) + rng.uniform(0.2, 0.5) * noise).clamp(min=0)


def polygon(axes: Axes, rng: np.random.Generator) -> Tensor:
    """Returns the largest distance from the centre, measured across the sides of a random polygon."""
    sides = int(rng.integers(3, 7))
    angles = 2 * math.pi * (np.arange(sides) + rng.uniform(-0.3, 0.3, sides)) / sides
    distances = [math.cos(angle) * axes.along + math.sin(angle) * axes.across for angle in angles]
    return torch.stack(distances).amax(0)


def line(axes: Axes, rng: np.random.Generator) -> Tensor:
    """Returns the distance from a curve of the length of the longer axis."""
    bend = rng.uniform(-0.3, 0.3)  # height of the curve, relative to half its length
    curve = bend * axes.along.square() + 0.02 * smooth_noise(axes.along.shape, 8, rng).to(axes.along)
    return torch.hypot(axes.along - axes.along.clamp(-1, 1), axes.across - curve)


def log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """Draws a number whose logarithm is uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def smooth_noise(size: torch.Size, cells: int, rng: np.random.Generator) -> Tensor:
    """Makes noise [h, w] that is smooth between `cells` x `cells` random values of unit variance."""
    values = torch.from_numpy(rng.standard_normal((1, 1, cells, cells), dtype=np.float32))
    return F.interpolate(values, tuple(size), mode="bicubic", align_corners=True)[0, 0]


def _box_mean(grey: Tensor) -> Tensor:
    for kernel in ((_NEIGHBOURHOOD, 1), (1, _NEIGHBOURHOOD)):
        padding = [side // 2 for side in kernel]
        grey = F.avg_pool2d(grey, kernel, 1, padding, count_include_pad=False)
    return grey


def _draw_extent(smallest: float, largest: float, side: int, rng: np.random.Generator) -> tuple[float, float]:
    """Draws an area in pixels and the ratio of the longer axis to the shorter one."""
    return log_uniform(smallest, largest, rng), 1 + 2 * rng.uniform() ** 2


def _draw_line_extent(
    smallest: float, largest: float, side: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Draws the same for a line in an image with this shorter side, from a length and a width."""
    length = log_uniform(0.08, 0.6, rng) * side
    width = log_uniform(1.0, 3.0, rng) * max(1.0, side / 256)
    area = min(max(length * width, smallest), largest)
    return area, max(1.0, math.pi / 4 * length * length / area)


def _draw_center(places: Tensor, size: torch.Size, rng: np.random.Generator) -> tuple[float, float]:
    """Draws a row and a column of an image; a place is drawn in proportion to its weight."""
    weights = places.flatten().numpy()
    row, column = divmod(int(rng.choice(len(weights), p=weights / weights.sum())), places.shape[1])
    return (
        (row + rng.uniform()) * size[0] / places.shape[0],
        (column + rng.uniform()) * size[1] / places.shape[1],
    )


def _grow_region(
    contrast: Tensor,
    center: tuple[float, float],
    area: float,
    elongation: float,
    shape: Shape,
    rng: np.random.Generator,
) -> Region:
    """Takes the `area` pixels of the smallest distance from the centre, in the metric of the shape."""
    radius, angle = math.sqrt(area / math.pi), math.pi * rng.uniform()
    longer, shorter = radius * math.sqrt(elongation), radius / math.sqrt(elongation)
    reach = (longer if shape is line else 1.75 * longer) + _MARGIN
    (rows, row), (columns, column) = (
        _window(middle, reach, side, contrast.device)
        for middle, side in zip(center, contrast.shape, strict=True)
    )
    along = row[:, None] * math.sin(angle) + column * math.cos(angle)
    across = row[:, None] * math.cos(angle) - column * math.sin(angle)
    scale = longer if shape is line else shorter
    distance = shape(Axes(along / longer, across / scale), rng)
    count = max(1, min(round(area), distance.numel() * 2 // 3))
    border = distance.flatten().kthvalue(count).values
    depth = 1 - (distance - distance.amin()) / (border - distance.amin()).clamp(min=1e-6)
    return Region(rows, columns, depth.clamp(min=0), radius)


def _window(middle: float, reach: float, side: int, device: torch.device) -> tuple[slice, Tensor]:
    """Returns the pixels of one axis within reach, and their distances from the middle."""
    start, stop = max(0, math.floor(middle - reach)), min(side, math.ceil(middle + reach))
    return slice(start, stop), torch.arange(start, stop, device=device) + 0.5 - middle
