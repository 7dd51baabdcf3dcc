"""A field of round battery cells, of which any part is seen: a regular texture with colour."""

import numpy as np

from benchmarks.choice.drawing import (
    Frame,
    Image,
    Random,
    bevel,
    grey,
    lit,
    opacity,
    paint,
    smooth_noise,
    whole_image,
)
from benchmarks.choice.flaws import Flaw, blob, stain, surface_flaw

FLAWS = (
    "missing cell",
    "wrong pole",
    "shifted cell",
    "small cell",
    "leak",
    "wrong ring",
    "dent",
    "scratch",
    "stain",
)
_PITCH = 27.0
_RING = np.array([0.2, 0.5, 0.42])


def draw(rng: Random, flaw: Flaw) -> Image:
    frame = whole_image().moved(rng.uniform(-_PITCH, _PITCH, 2), rng.normal(0, 0.03), rng.normal(1, 0.01))
    image = grey(0.12 + 0.01 * smooth_noise(rng, 2))
    lattice = [
        np.array([(column + 0.5 * (row % 2)) * _PITCH, row * _PITCH * np.sqrt(0.75)])
        for row in range(-5, 6)
        for column in range(-5, 6)
    ]
    nearest = np.array([frame.moved(place).radius.min() for place in lattice])
    lattice = [place for place, distance in zip(lattice, nearest, strict=True) if distance < 14]
    wrong = int(flaw.rng.choice(np.flatnonzero(nearest[nearest < 14] < 1)))  # its middle is seen
    covered = np.full_like(image[..., 0], np.inf)
    for number, place in enumerate(lattice):
        cell = frame.moved(place + rng.normal(0, 0.3, 2))
        kind = flaw.kind if number == wrong else ""
        image = _cell(image, cell, rng, flaw, kind)
        covered = np.minimum(covered, cell.disc(12))
    if flaw.kind == "leak":
        image = stain(image, flaw, blob(flaw, covered - 9, 14), (0.75, 0.75, 0.6))
    return surface_flaw(image, flaw, covered)


def _cell(image: Image, frame: Frame, rng: Random, flaw: Flaw, kind: str) -> Image:
    """One cell: a coloured ring around a metal cap that is raised in its middle."""
    level, ring, pole, radius = rng.normal(0.6, 0.02), _RING + rng.normal(0, 0.012, 3), 5.0, 12.0
    grain = 1 + 0.03 * np.cos(2 * frame.angle + rng.uniform(0, 2 * np.pi))
    if kind == "missing cell":
        return image
    if kind == "shifted cell":
        frame = frame.moved(flaw.between(1.5, 4) * flaw.rng.choice([-0.7, 0.7], 2))
    if kind == "small cell":
        radius -= flaw.between(0.8, 3)
    if kind == "wrong pole":
        pole = flaw.between(4.0, 1.0)
    if kind == "wrong ring":
        ring = ring + flaw.between(0.05, 0.25) * flaw.rng.choice([-1, 1], 3)
    image = paint(image, opacity(frame.disc(radius)), np.clip(ring, 0, 1))
    image = paint(image, opacity(frame.disc(radius - 2.5)), level * grain)
    return lit(image, bevel(frame.disc(pole), 1.5) + bevel(frame.disc(radius), 1.5), 0.2)
