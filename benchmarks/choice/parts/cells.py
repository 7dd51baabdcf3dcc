"""A field of round battery cells, of which any part is seen: a regular texture with colour."""

import numpy as np

from benchmarks.choice.drawing import (
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
_LATTICE = np.array(
    [
        ((column + row % 2 / 2) * _PITCH, row * _PITCH * 0.75**0.5)
        for row in range(-4, 5)
        for column in range(-4, 5)
    ]
)
_RING = (0.2, 0.5, 0.42)


def draw(rng: Random, flaw: Flaw) -> Image:
    """Each cell is a coloured ring around a metal cap that is raised in its middle."""
    shift = rng.uniform(-_PITCH, _PITCH, 2)
    frame = whole_image().moved(shift, rng.normal(0, 0.03), rng.normal(1, 0.01))
    count = len(_LATTICE)
    places, levels = _LATTICE + rng.normal(0, 0.3, (count, 2)), rng.normal(0.6, 0.02, count)
    grain, rings = rng.uniform(0, 2 * np.pi, count), _RING + rng.normal(0, 0.012, (count, 3))
    radii, poles = np.full(count, 12.0), np.full(count, 5.0)
    wrong = int(flaw.rng.choice(np.flatnonzero(np.hypot(*(places + shift).T) < 60)))
    if flaw.kind == "missing cell":
        radii[wrong] = poles[wrong] = -5
    if flaw.kind == "shifted cell":
        places[wrong] += flaw.between(1.5, 4) * flaw.rng.choice([-0.7, 0.7], 2)
    if flaw.kind == "small cell":
        radii[wrong] -= flaw.between(0.8, 3)
    if flaw.kind == "wrong pole":
        poles[wrong] = flaw.between(4.0, 1.0)
    if flaw.kind == "wrong ring":
        rings[wrong] = np.clip(rings[wrong] + flaw.between(0.05, 0.25) * flaw.rng.choice([-1, 1], 3), 0, 1)
    nearest, cell = frame.nearest(places)
    outline = cell.disc(radii[nearest])
    image = paint(grey(0.12 + 0.01 * smooth_noise(rng, 2)), opacity(outline), rings[nearest])
    cap = levels[nearest] * (1 + 0.03 * np.cos(2 * cell.angle + grain[nearest]))
    image = paint(image, opacity(outline + 2.5), cap)
    image = lit(image, bevel(cell.disc(poles[nearest]), 1.5) + bevel(outline, 1.5), 0.2)
    if flaw.kind == "leak":
        return stain(image, flaw, blob(flaw, outline - 9, 14), (0.75, 0.75, 0.6))
    return surface_flaw(image, flaw, outline)
