"""A coloured tablet with an imprint and random speckles: aligned."""

import numpy as np

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
    whole_image,
)
from benchmarks.choice.flaws import Flaw, blob, chipped, surface_flaw

FLAWS = (
    "missing stroke",
    "wrong imprint",
    "faint imprint",
    "spot",
    "tint",
    "chip",
    "crack",
    "scratch",
    "stain",
)
_SPECKLES = 30
_STROKES = (  # the letters VTA
    ((-27.0, -11.0), (-20.0, 11.0)),
    ((-20, 11), (-13, -11)),
    ((-8, -11), (8, -11)),
    ((0, -11), (0, 11)),
    ((12, 11), (19, -11)),
    ((19, -11), (26, 11)),
    ((15, 3), (23, 3)),
)


def draw(rng: Random, flaw: Flaw) -> Image:
    frame = jittered(rng, shift=1.0, angle=0.04, scale=0.012)
    outline = chipped(frame.box(50, 31, 31), flaw)
    image = grey(0.86 + 0.008 * smooth_noise(rng, 4))
    shadow = frame.moved((3, 3)).box(50, 31, 31)
    image = paint(image, 0.35 * opacity(shadow, 8), (0.3, 0.3, 0.32))
    colour = np.array([0.83, 0.66, 0.42]) + rng.normal(0, 0.012, 3)
    image = paint(image, opacity(outline), colour * (1 + 0.015 * smooth_noise(rng, 1.5)[..., None]))
    image = _speckled(image, outline, rng)
    image = _wrong_colour(image, outline, flaw)
    image = lit(image, 0.5 * bevel(outline, 12) - _imprint(frame, rng, flaw), 0.22)
    return surface_flaw(image, flaw, outline)


def _speckled(image: Image, outline: Field, rng: Random) -> Image:
    nearest, speckle = whole_image().nearest(rng.uniform((-50, -31), (50, 31), (_SPECKLES, 2)))
    radii, strengths = rng.uniform(0.4, 1.2, _SPECKLES), rng.uniform(0.3, 0.7, _SPECKLES)
    inside = np.maximum(speckle.disc(radii[nearest]), outline + 1)
    return paint(image, strengths[nearest] * opacity(inside), (0.5, 0.2, 0.14))


def _wrong_colour(image: Image, outline: Field, flaw: Flaw) -> Image:
    if flaw.kind == "spot":
        colour = ((0.5, 0.2, 0.14), (0.25, 0.3, 0.5))[flaw.one_of(2)]
        return paint(image, flaw.between(0.3, 0.8) * opacity(blob(flaw, outline, flaw.between(2, 4))), colour)
    if flaw.kind == "tint":
        region = np.maximum(blob(flaw, outline, flaw.between(10, 30)), outline)
        colour = ((0.5, 0.7, 0.4), (0.9, 0.5, 0.5), (0.6, 0.6, 0.6))[flaw.one_of(3)]
        return paint(image, flaw.between(0.08, 0.35) * opacity(region, 4), colour)
    return image


def _imprint(frame: Frame, rng: Random, flaw: Flaw) -> Field:
    """The depth of the letters."""
    depth, strokes = rng.normal(1.6, 0.15), list(_STROKES)
    if flaw.kind == "missing stroke":
        del strokes[flaw.one_of(len(strokes))]
    if flaw.kind == "wrong imprint":
        start, end = strokes.pop(flaw.one_of(len(strokes)))
        shift = flaw.between(2, 5) * flaw.sign()
        strokes.append(((start[0] + shift, start[1]), (end[0] - shift, end[1])))
    if flaw.kind == "faint imprint":
        depth *= flaw.between(0.7, 0.3)
    distance = np.min([frame.polyline(stroke) for stroke in strokes], axis=0)
    return np.asarray(depth * np.clip(1.5 - distance / 2, 0, 1))
