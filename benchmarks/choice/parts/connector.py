"""A black connector with two rows of pins on a circuit board: aligned, grey."""

import numpy as np

from benchmarks.choice.drawing import (
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

FLAWS = (
    "missing pin",
    "bent pin",
    "short pin",
    "dull pin",
    "bridge",
    "missing mark",
    "chip",
    "crack",
    "scratch",
    "stain",
)
_COLUMNS, _PITCH, _ROW = 8, 12.0, 33.0
_PINS = [(_PITCH * (n - (_COLUMNS - 1) / 2), row) for row in (-_ROW, _ROW) for n in range(_COLUMNS)]


def draw(rng: Random, flaw: Flaw) -> Image:
    frame = jittered(rng)
    image = grey(0.38 + 0.02 * smooth_noise(rng, 1) + 0.02 * smooth_noise(rng, 8))
    image = _pins(image, frame, rng, flaw)
    body = chipped(frame.box(56, 24, 3), flaw)
    image = paint(image, opacity(body), 0.14 + 0.012 * smooth_noise(rng, 0.8))
    image = lit(image, bevel(body, 3), 0.3)
    image = _mark(image, frame, flaw)
    return surface_flaw(image, flaw, body)


def _pins(image: Image, frame: Frame, rng: Random, flaw: Flaw) -> Image:
    """Tinned pins on both sides of the body, which differ a little in length and brightness."""
    wrong = flaw.one_of(len(_PINS))
    for number, (x, y) in enumerate(_PINS):
        shift, half_length, level = rng.normal(0, 0.25), rng.normal(12, 0.3), rng.normal(0.75, 0.03)
        angle = rng.normal(0, 0.01)
        if number == wrong and flaw.kind == "missing pin":
            continue
        if number == wrong and flaw.kind == "bent pin":
            angle += flaw.sign() * flaw.between(0.08, 0.35)
        if number == wrong and flaw.kind == "short pin":
            half_length -= flaw.between(1.2, 5)
        if number == wrong and flaw.kind == "dull pin":
            level *= flaw.between(0.85, 0.5)
        root = frame.moved((x + shift, y - np.sign(y) * 12), angle)
        pin = root.moved((0, np.sign(y) * half_length)).box(2.6, half_length, 1)
        image = paint(image, opacity(pin), level + 0.12 * np.cos(root.x) * opacity(pin))
    return _bridge(image, frame, flaw)


def _bridge(image: Image, frame: Frame, flaw: Flaw) -> Image:
    """Solder between two neighbouring pins."""
    if flaw.kind != "bridge":
        return image
    x, y = _PINS[flaw.one_of(2) * _COLUMNS + flaw.one_of(_COLUMNS - 1)]
    solder = frame.moved((x + _PITCH / 2, y + np.sign(y) * flaw.rng.uniform(-4, 8)))
    alpha = flaw.between(0.4, 1) * opacity(solder.box(5, flaw.between(0.7, 3), 0.6))
    return paint(image, alpha, (0.7, 0.7, 0.7))


def _mark(image: Image, frame: Frame, flaw: Flaw) -> Image:
    """The white dot of the first pin, and a moulded frame."""
    if flaw.kind != "missing mark":
        image = paint(image, 0.8 * opacity(frame.moved((-47, 15)).disc(2.5)), (0.8, 0.8, 0.8))
    return lit(image, bevel(np.abs(frame.box(40, 12, 3)) - 1.5, 1.5), 0.3)
