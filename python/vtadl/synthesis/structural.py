"""Structural anomalies: parts that are missing, out of place, deformed, scratched or foreign."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.synthesis.regions import log_uniform, smooth_noise
from vtadl.synthesis.site import Site

HARD = 0.15  # softness of the border of solid parts


def missing(site: Site, rng: np.random.Generator) -> Tensor:
    """Replaces a part by the colours around it, or by those on one side of it as if it were broken off."""
    outside = (site.region.depth == 0).float()
    known = outside * _half_plane(site, rng) if rng.uniform() < 0.5 else outside
    known = known if known.any() else outside
    filled = _extend(site.window[None].float(), known[None, None])[0]
    noise = torch.from_numpy(rng.standard_normal(outside.shape, dtype=np.float32)).to(filled)
    return site.blend(filled + site.noise_std * noise, HARD)


def displaced(site: Site, rng: np.random.Generator) -> Tensor:
    """Shows a part of the image that has been moved and turned a little."""
    angle, direction = rng.uniform(-0.4, 0.4), rng.uniform(0, 2 * math.pi)
    shift = log_uniform(2.0, 2.0 + 2 * site.region.radius, rng)
    rows, columns = _coordinates(site)
    middle_row, middle_column = rows.mean(), columns.mean()
    rows, columns = rows - middle_row, columns - middle_column
    turned_rows = rows * math.cos(angle) + columns * math.sin(angle)
    turned_columns = columns * math.cos(angle) - rows * math.sin(angle)
    content = _sample(
        site.image,
        turned_rows + middle_row + shift * math.sin(direction),
        turned_columns + middle_column + shift * math.cos(direction),
    )
    return site.blend(content, HARD)


def bent(site: Site, rng: np.random.Generator) -> Tensor:
    """Pushes a part to one side, or twists it, with a displacement that vanishes towards its border."""
    weight = site.region.opacity(1.0)
    rows, columns = _coordinates(site)
    if rng.uniform() < 0.5:
        direction = rng.uniform(0, 2 * math.pi)
        push = max(1.5, rng.uniform(0.15, 0.5) * site.region.radius) * weight
        return _sample(site.image, rows + push * math.sin(direction), columns + push * math.cos(direction))
    angle = rng.choice([-1, 1]) * rng.uniform(0.3, 1.2) * weight
    total = site.region.depth.sum().clamp(min=1e-6)
    row, column = (
        axis - (axis * site.region.depth).sum() / total for axis in torch.broadcast_tensors(rows, columns)
    )
    turned_rows = row * angle.cos() + column * angle.sin() - row
    turned_columns = column * angle.cos() - row * angle.sin() - column
    return _sample(site.image, rows + turned_rows, columns + turned_columns)


def scratch(site: Site, rng: np.random.Generator) -> Tensor:
    """Draws a thin line that is brighter or darker than what it crosses, and varies along its way."""
    level = -0.5 if rng.uniform() < site.mean.mean().item() else 0.5
    strength = (1 + 0.3 * smooth_noise(site.region.depth.shape, 12, rng)).clamp(min=0.2)
    return site.window + level * (strength.to(site.window) * site.region.opacity(0.8).to(site.window))


def imprint(site: Site, rng: np.random.Generator) -> Tensor:
    """Shades a smooth dent or bump that is lit from one side."""
    height = F.pad(site.region.opacity(1.0)[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    direction = rng.uniform(0, 2 * math.pi)
    slope_down, slope_right = height[2:, 1:-1] - height[:-2, 1:-1], height[1:-1, 2:] - height[1:-1, :-2]
    shade = (math.sin(direction) * slope_down + math.cos(direction) * slope_right) * (site.region.depth > 0)
    shade = shade / shade.abs().amax().clamp(min=1e-6)
    return site.window * (1 + 0.6 * shade.to(site.window))


def foreign_part(site: Site, rng: np.random.Generator) -> Tensor:
    """Shows a part of another normal image, mostly from another place."""
    count = len(site.images)
    source = site.images[(site.index + int(rng.integers(1, max(count, 2)))) % count]
    if rng.uniform() < 0.25:
        return site.blend(source[:, site.region.rows, site.region.columns], HARD)
    return site.blend(random_crop(source, site.region.depth.shape, rng), HARD)


def random_crop(image: Tensor, size: torch.Size, rng: np.random.Generator) -> Tensor:
    """Draws a crop [C, h, w] of an image [C, H, W]."""
    top, left = (
        int(rng.integers(full - part + 1)) for full, part in zip(image.shape[-2:], size, strict=True)
    )
    return image[:, top : top + size[0], left : left + size[1]]


def _extend(values: Tensor, known: Tensor) -> Tensor:
    """Fills unknown pixels of values [1, C, h, w] smoothly, from averages over ever larger cells.

    This is the pull-push algorithm of Gortler et al., "The lumigraph", 1996. `known` [1, 1, h, w] is 0 or 1.
    """
    if max(values.shape[-2:]) == 1 or bool(known.all()):
        return values
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    coarse = F.avg_pool2d(values * known, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    filled = _extend(coarse, (weight > 0).float())
    return torch.where(known > 0, values, F.interpolate(filled, values.shape[-2:], mode="bilinear"))


def _half_plane(site: Site, rng: np.random.Generator) -> Tensor:
    """Returns 1 at the pixels [h, w] on one side of the window's middle, else 0."""
    rows, columns = _coordinates(site)
    angle = rng.uniform(0, 2 * math.pi)
    side = (rows - rows.mean()) * math.sin(angle) + (columns - columns.mean()) * math.cos(angle)
    return (side > 0).float()


def _coordinates(site: Site) -> tuple[Tensor, Tensor]:
    """Returns the rows [h, 1] and columns [1, w] of the window's pixels in the image."""
    region, device = site.region, site.image.device
    rows = torch.arange(region.rows.start, region.rows.stop, device=device, dtype=torch.float32)
    columns = torch.arange(region.columns.start, region.columns.stop, device=device, dtype=torch.float32)
    return rows[:, None], columns[None]


def _sample(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Returns the image [C, H, W] at fractional positions [h, w], mirrored beyond its border."""
    height, width = image.shape[-2:]
    x, y = torch.broadcast_tensors((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1)
    grid = torch.stack([x, y], -1)[None]
    return F.grid_sample(image[None].float(), grid, padding_mode="reflection", align_corners=False)[0]
