"""A turned metal disc with a bore and a circle of holes: aligned, nearly grey."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.choice.drawing import (
    Field,
    Frame,
    Image,
    Random,
    bevel,
    grey,
    jittered,
    lit,
    opacity,
    paint,
    smooth_noise,
)
from benchmarks.choice.flaws import Flaw, chipped, surface_flaw

FLAWS = ("missing hole", "small hole", "shifted hole", "burr", "chip", "crack", "scratch", "stain")
_HOLES, _CIRCLE = 6, 34.0


def draw(rng: Random, flaw: Flaw) -> Image:
    frame = jittered(rng)
    outline = chipped(frame.disc(55), flaw)
    image = grey(0.17 + 0.012 * smooth_noise(rng, 2)) * [0.92, 1, 1.08]
    image = paint(image, opacity(outline), _turned(frame, rng))
    openings = np.minimum(frame.disc(13), _holes(frame, flaw))
    image = lit(image, np.minimum(bevel(outline, 3), bevel(-openings, 1.5)), 0.25)
    image = surface_flaw(image, flaw, np.maximum(outline, -openings))
    image = paint(image, opacity(openings), (0.08, 0.08, 0.09))
    return _burr(image, frame, flaw)


def _turned(frame: Frame, rng: Random) -> Field:
    """Grey levels of concentric grooves, with the sheen that they have in two directions."""
    grooves = np.interp(frame.radius, np.arange(0, 140, 1.5), rng.standard_normal(94))
    sheen = np.cos(2 * (frame.angle - rng.normal(0.6, 0.1)))
    return np.asarray(0.55 + 0.06 * sheen + 0.02 * grooves + 0.01 * smooth_noise(rng, 1))


def _holes(frame: Frame, flaw: Flaw) -> Field:
    radii, places = np.full(_HOLES, 5.5), [_place(number) for number in range(_HOLES)]
    wrong = flaw.one_of(_HOLES)
    if flaw.kind == "missing hole":
        radii[wrong] = -5
    if flaw.kind == "small hole":
        radii[wrong] -= flaw.between(0.6, 2.5)
    if flaw.kind == "shifted hole":
        angle, shift = flaw.rng.uniform(0, 2 * np.pi), flaw.between(1.2, 4)
        places[wrong] += shift * np.array([np.cos(angle), np.sin(angle)])
    holes = [frame.moved(place).disc(radius) for place, radius in zip(places, radii, strict=True)]
    return np.asarray(np.min(holes, axis=0))


def _burr(image: Image, frame: Frame, flaw: Flaw) -> Image:
    """A bright lip that stands into a hole."""
    if flaw.kind != "burr":
        return image
    angle = flaw.rng.uniform(0, 2 * np.pi)
    edge = _place(flaw.one_of(_HOLES)) + 5.5 * np.array([np.cos(angle), np.sin(angle)])
    lip = frame.moved(edge, angle).box(flaw.between(0.8, 2), flaw.between(1.2, 3.5), 0.5)
    return paint(image, flaw.between(0.4, 0.9) * opacity(lip), (0.72, 0.72, 0.74))


def _place(number: int) -> NDArray[np.float64]:
    angle = 2 * np.pi * number / _HOLES
    return _CIRCLE * np.array([np.cos(angle), np.sin(angle)])
