"""Scenes of a photograph that scikit-image includes, taken again and again by a camera that shakes a little.

The photograph is not one of those that `vtadl.synthesis` makes backgrounds of.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from skimage import data as photographs
from skimage.filters import gaussian
from skimage.transform import warp

from benchmarks.choice.drawing import (
    SIDE,
    Field,
    Frame,
    Image,
    Random,
    opacity,
    paint,
    smooth_noise,
    whole_image,
)
from benchmarks.choice.flaws import Flaw, bumpy, surface_flaw

FLAWS = ("foreign patch", "moved patch", "warp", "erasure", "wrong colour", "scratch", "crack", "stain")
_EVERYWHERE = np.full((SIDE, SIDE), -10.0)  # the distance from the border of what may have a flaw


def scene(row: int, column: int, zoom: float, shake: float) -> Callable[[Random, Flaw], Image]:
    """Draws the part of the photograph around a pixel; `zoom` is its pixels per pixel of the image.

    `shake` is the standard deviation of the shift, in pixels of the image.
    """

    def draw(rng: Random, flaw: Flaw) -> Image:
        view = whole_image().moved(shake * rng.standard_normal(2), rng.normal(0, 0.01), rng.normal(1, 0.01))
        view = Frame(*_warped(view, flaw))
        image = _look(Frame(zoom * view.x + column, zoom * view.y + row), zoom)
        tint = 1 + 0.015 * rng.standard_normal(3) + 0.02 * smooth_noise(rng, 30)[..., None]
        return surface_flaw(_patched(image, flaw), flaw, _EVERYWHERE) * tint

    return draw


@cache
def _photograph(zoom: float) -> Image:
    """The photograph, blurred as it has to be to be sampled once in `zoom` pixels."""
    left, _, _ = photographs.stereo_motorcycle()
    return np.asarray(gaussian(left / 255.0, zoom / 3, channel_axis=2))


def _look(view: Frame, zoom: float) -> Image:
    """The photograph at the coordinates of a frame."""
    channels = np.moveaxis(_photograph(zoom), 2, 0)
    seen = [warp(channel, np.stack([view.y, view.x]), order=1, mode="reflect") for channel in channels]
    return np.stack(seen, axis=2)


def _warped(view: Frame, flaw: Flaw) -> tuple[Field, Field]:
    """The coordinates, pushed aside in one place if the flaw is a warp."""
    if flaw.kind != "warp":
        return view.x, view.y
    radius = flaw.between(5, 14)
    push = flaw.between(0.2, 0.45) * radius * _disc(flaw, radius, 0.8 * radius)
    angle = flaw.rng.uniform(0, 2 * np.pi)
    return view.x + np.cos(angle) * push, view.y + np.sin(angle) * push


def _patched(image: Image, flaw: Flaw) -> Image:
    """The image with other content in one place."""
    if flaw.kind == "foreign patch":
        alpha, (height, width, _) = _disc(flaw, flaw.between(3, 9)), _photograph(1).shape
        other = whole_image().moved(-flaw.rng.uniform(64, (width - 64, height - 64)))
        return paint(image, flaw.between(0.4, 1) * alpha, _look(other, 1))
    if flaw.kind == "moved patch":
        shift = [flaw.sign() * round(flaw.between(3, 30)) for _ in range(2)]
        return paint(image, _disc(flaw, flaw.between(3, 9)), np.roll(image, shift, axis=(0, 1)))
    if flaw.kind == "erasure":
        alpha = flaw.between(0.5, 1) * _disc(flaw, flaw.between(3, 9))
        return paint(image, alpha, gaussian(image, flaw.between(2, 5), channel_axis=2))
    if flaw.kind == "wrong colour":
        change = 1 + flaw.between(0.1, 0.35) * flaw.rng.choice([-1, 1], 3)
        return paint(image, _disc(flaw, flaw.between(5, 14)), image * change)
    return image


def _disc(flaw: Flaw, radius: float, softness: float = 2.0) -> Field:
    place = flaw.place(whole_image().box(SIDE / 2 - 8, SIDE / 2 - 8) < 0)
    return opacity(bumpy(whole_image().moved(place), flaw, radius), softness)
