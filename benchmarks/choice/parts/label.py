"""A printed label with text, a bar code, a coloured logo and a lot number that changes: aligned."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.choice.drawing import (
    Field,
    Frame,
    Image,
    Random,
    grey,
    jittered,
    lit,
    opacity,
    paint,
    smooth_noise,
    whole_image,
)
from benchmarks.choice.flaws import Flaw, blob, bumpy, stain

FLAWS = (
    "missing character",
    "wrong character",
    "missing bar",
    "faded print",
    "smear",
    "blot",
    "wrong logo",
    "crease",
    "torn corner",
    "stain",
)
_NODES = [(x, y) for y in (-3.5, 0.0, 3.5) for x in (-2.0, 2.0)]  # of the strokes of characters
_LINKS = [(0, 1), (1, 3), (3, 5), (5, 4), (4, 2), (2, 0), (2, 3), (0, 3), (2, 5)]
_PLACES = [(-48.0 + 7.5 * n, row) for row, count in ((-38.0, 9), (-25.0, 13)) for n in range(count)]
_LOT = [(20.0 + 7.5 * n, 40.0) for n in range(4)]
_INK = 0.14


def draw(rng: Random, flaw: Flaw) -> Image:
    frame = jittered(rng, shift=1.0, angle=0.012)
    paper = frame.box(58, 52, 3)
    if flaw.kind == "torn corner":
        corner = frame.moved((58 * flaw.sign(), 52 * flaw.sign()))
        paper = np.maximum(paper, -bumpy(corner, flaw, flaw.between(6, 16)))
    image = grey(0.5 + 0.02 * smooth_noise(rng, 6)) * [1.05, 0.95, 0.8]
    image = paint(image, opacity(paper), 0.9 + 0.008 * smooth_noise(rng, 1))
    ink = _smeared(_print(frame, rng, flaw), flaw) * (rng.normal(0.9, 0.02) + 0.03 * smooth_noise(rng, 1.5))
    image = paint(image, np.clip(_faded(ink, flaw, paper), 0, 1), (_INK, _INK, _INK + 0.02))
    image = _logo(image, frame, rng, flaw)
    if flaw.kind == "blot":
        blot = opacity(blob(flaw, paper, flaw.between(1.5, 4)))
        image = paint(image, flaw.between(0.4, 0.9) * blot, (_INK, _INK, _INK))
    if flaw.kind == "crease":
        line = frame.moved(flaw.place(paper < -10), flaw.rng.uniform(0, np.pi)).y
        image = np.where(
            paper[..., None] < 0, lit(image, np.maximum(3 - np.abs(line), 0), flaw.between(0.03, 0.12)), image
        )
    return stain(image, flaw, paper, (0.6, 0.45, 0.25)) if flaw.kind == "stain" else image


def _print(frame: Frame, rng: Random, flaw: Flaw) -> Field:
    """Opacity of the black print: fixed characters and bars, and a lot number."""
    fixed = np.random.default_rng(7)  # the same text on all labels
    text = np.concatenate([_characters(fixed, len(_PLACES)), _characters(rng, len(_LOT))])
    wrong = flaw.one_of(len(_PLACES))
    if flaw.kind == "missing character":
        text[wrong] = False
    if flaw.kind == "wrong character":
        text[wrong] = _characters(flaw.rng, 1)
    nearest, character = frame.nearest(np.array(_PLACES + _LOT))
    strokes = [
        np.where(text[nearest, number], character.polyline([_NODES[node] for node in link]), np.inf)
        for number, link in enumerate(_LINKS)
    ]
    return np.maximum(opacity(np.min(strokes, axis=0) - 0.8), _bars(frame, fixed, flaw))


def _characters(rng: Random, count: int) -> NDArray[np.bool_]:
    """Which strokes random characters have, [count, links]."""
    return np.asarray(rng.random((count, len(_LINKS))).argsort(1) < rng.integers(3, 6, (count, 1)))


def _bars(frame: Frame, fixed: Random, flaw: Flaw) -> Field:
    widths = fixed.choice([1.2, 2.0, 3.0], 22)
    starts = -50 + np.cumsum(widths + fixed.choice([1.5, 2.5], 22))
    wrong = flaw.one_of(len(widths)) if flaw.kind == "missing bar" else -1
    bars = [
        frame.moved((start - width / 2, 4)).box(width / 2, 17)
        for number, (start, width) in enumerate(zip(starts, widths, strict=True))
        if number != wrong
    ]
    return opacity(np.min(bars, axis=0))


def _smeared(ink: Field, flaw: Flaw) -> Field:
    """The ink of a region, dragged along."""
    if flaw.kind != "smear":
        return ink
    x, y = flaw.place(ink > 0.5)
    region = opacity(whole_image().moved((x, y)).box(flaw.between(5, 16), flaw.between(3, 8), 3), 2)
    length = round(flaw.between(3, 8))
    dragged = np.mean([np.roll(ink, n, axis=1) for n in range(length)], axis=0)
    return np.asarray(ink + region * (dragged - ink))


def _faded(ink: Field, flaw: Flaw, paper: Field) -> Field:
    if flaw.kind != "faded print":
        return ink
    x, y = flaw.place((ink > 0.5) & (paper < 0))
    region = bumpy(whole_image().moved((x, y)), flaw, flaw.between(5, 16))
    return ink * (1 - flaw.between(0.2, 0.7) * opacity(region, 4))


def _logo(image: Image, frame: Frame, rng: Random, flaw: Flaw) -> Image:
    colour = np.array([0.1, 0.35, 0.65]) + rng.normal(0, 0.012, 3)
    if flaw.kind == "wrong logo":
        colour += flaw.between(0.05, 0.25) * flaw.rng.choice([-1, 1], 3)
    mark = np.maximum(frame.moved((-36, 38)).disc(9), -frame.moved((-33, 36)).disc(4))
    return paint(image, opacity(mark), np.clip(colour, 0, 1))
