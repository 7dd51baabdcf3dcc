"""Synthetic anomalies in normal images, by which settings are chosen without any real anomaly."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vtadl.synthesis import photometric, structural, textural
from vtadl.synthesis.backgrounds import make_texture_backgrounds
from vtadl.synthesis.noise import estimate_noise
from vtadl.synthesis.regions import (
    Shape,
    blob,
    draw_region,
    ellipse,
    line,
    local_contrast,
    log_uniform,
    polygon,
)
from vtadl.synthesis.site import Site

MIN_CHANGE = 0.02  # of a visible pixel, mean over the channels
CHANGE_PER_CONTRAST = 0.5  # structure and noise mask changes that are small beside them
_TEXTURE_SEED = 1000  # keeps these textures different from those of a background
_ATTEMPTS = 5
_MIN_VISIBLE_AREA = 0.0005  # of the image
_MIN_VISIBLE_PIXELS = 4
_FAINTEST = 1.5  # times the change that is just visible


class PseudoAnomalies(NamedTuple):
    """Images with synthetic anomalies, and masks of the changed pixels."""

    images: Tensor  # [N, C, H, W]
    masks: Tensor  # [N, 1, H, W] of 0 and 1
    kinds: list[str]  # N keys of KINDS


class Kind(NamedTuple):
    """A way to make an anomaly."""

    make: Callable[[Site, np.random.Generator], Tensor]
    shapes: tuple[Shape, ...]
    fades: bool  # whether it occurs at any contrast, down to what is just visible


_SOLID = (blob, polygon, ellipse)
KINDS = {
    "missing": Kind(structural.missing, _SOLID, fades=False),
    "displaced": Kind(structural.displaced, _SOLID, fades=False),
    "bent": Kind(structural.bent, (ellipse, blob), fades=False),
    "scratch": Kind(structural.scratch, (line,), fades=True),
    "imprint": Kind(structural.imprint, (ellipse, blob, line), fades=True),
    "foreign part": Kind(structural.foreign_part, _SOLID, fades=False),
    "stain": Kind(photometric.stain, (blob, ellipse), fades=True),
    "contamination": Kind(photometric.contamination, _SOLID, fades=True),
    "texture": Kind(textural.other_texture, _SOLID, fades=True),
    "blurred": Kind(textural.blurred, _SOLID, fades=False),
    "noisy": Kind(textural.noisy, _SOLID, fades=True),
}


def make_pseudo_anomalies(
    images: Tensor, seed: int = 0, kinds: Sequence[str] = tuple(KINDS)
) -> PseudoAnomalies:
    """Adds one anomaly to each of the normal images [N, C, H, W] in [0, 1].

    All kinds are drawn equally often. An anomaly that nobody could see is drawn again, and made as
    another kind if that does not help: a missing part of an even ground cannot be seen, for example.
    """
    rng = np.random.default_rng(seed)
    textures = make_texture_backgrounds(images, math.ceil(len(images) / 4), seed + _TEXTURE_SEED)
    names = _draw_kinds(len(images), kinds, rng)
    noise_std = estimate_noise(images).tolist()
    changed, masks = images.clone(), torch.zeros_like(images[:, :1])
    for index, name in enumerate(names):
        canvas = _Canvas(images, index, textures, noise_std[index])
        attempts = [*[name] * _ATTEMPTS, *rng.choice(kinds, _ATTEMPTS), *["contamination"] * _ATTEMPTS]
        names[index] = canvas.add_anomaly(attempts, changed[index], masks[index, 0], rng)
    return PseudoAnomalies(changed, masks, names)


def visible_change(contrast: Tensor) -> Tensor:
    """Returns the mean change over the channels that is just visible at a local contrast, both [H, W]."""
    return MIN_CHANGE + CHANGE_PER_CONTRAST * contrast


class _Canvas:
    """A normal image that gets an anomaly."""

    def __init__(self, images: Tensor, index: int, textures: Tensor, noise_std: float) -> None:
        self.images, self.index, self.textures, self.noise_std = images, index, textures, noise_std
        self.is_grey = bool((images[index] == images[index, :1]).all())
        self.contrast = local_contrast(images[index])
        self.visible = visible_change(self.contrast)

    def add_anomaly(
        self, attempts: Sequence[str], changed: Tensor, mask: Tensor, rng: np.random.Generator
    ) -> str:
        """Writes an anomaly to an image [C, H, W] and its mask [H, W], and returns its kind.

        The kinds are attempted in turn until one is visible. The last one counts even if it is not.
        """
        min_pixels = max(_MIN_VISIBLE_PIXELS, _MIN_VISIBLE_AREA * mask.numel())
        for name in attempts:
            site, window = self._draw(KINDS[name], rng)
            place = (site.region.rows, site.region.columns)
            visible = (window - site.window).abs().mean(0) > self.visible[place]
            if visible.sum() >= min_pixels:
                break
        changed[:, place[0], place[1]] = window
        mask[place] = visible.to(mask)
        return str(name)

    def _draw(self, kind: Kind, rng: np.random.Generator) -> tuple[Site, Tensor]:
        """Returns a place for an anomaly, and the changed window [C, h, w] there."""
        region = draw_region(self.contrast, kind.shapes[rng.integers(len(kind.shapes))], rng)
        site = Site(self.images, self.index, self.textures, region, self.noise_std)
        change = kind.make(site, rng) - site.window
        if self.is_grey:
            change = change.mean(0, keepdim=True)
        if kind.fades:
            change = self._fade(change, region.depth > 0, self.visible[region.rows, region.columns], rng)
        return site, torch.where(region.depth > 0, site.window + change, site.window).clamp(0, 1)

    def _fade(self, change: Tensor, inside: Tensor, visible: Tensor, rng: np.random.Generator) -> Tensor:
        """Scales a change [C, h, w] to a random contrast, from what is just visible to the full one."""
        ratios = (change.abs().mean(0) / visible)[inside]
        peak = ratios.quantile(0.9).item() if len(ratios) else 0.0
        if peak <= _FAINTEST:
            return change
        return change * (log_uniform(_FAINTEST, peak, rng) / peak)


def _draw_kinds(count: int, kinds: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Returns kinds in random order, each as often as the others."""
    names = rng.permutation(kinds)
    return rng.permutation(names[np.arange(count) % len(names)]).tolist()
