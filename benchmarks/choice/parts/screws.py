"""Screws and washers that lie in any place and direction on a conveyor belt: not aligned, nearly grey."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.choice.drawing import (
    SIDE,
    Field,
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
from benchmarks.choice.flaws import Flaw, scratch, stain

_FLAWS_OF = {
    "washer": ("cut washer", "narrow bore", "oval washer", "scratch", "rust"),
    "screw": ("worn thread", "blunt tip", "no slot", "bent screw", "scratch", "rust"),
}
FLAWS = (*dict.fromkeys(kind for kinds in _FLAWS_OF.values() for kind in kinds), "dirt")
_KINDS = ("screw", "screw", "washer")
_SCALE = 1.4
_REACH = {"screw": 30.0, "washer": 18.0}  # pixels around the middle


class Piece(NamedTuple):
    kind: str
    frame: Frame
    flaw: str  # the kind of flaw, if this piece has it


def draw(rng: Random, flaw: Flaw) -> Image:
    image = grey(0.3 + 0.015 * smooth_noise(rng, 0.8) + 0.015 * smooth_noise(rng, 5)) * [0.95, 1.02, 1]
    covered = np.full_like(image[..., 0], np.inf)
    for piece in _pieces(rng, flaw):
        outline = _washer(piece, flaw) if piece.kind == "washer" else _screw(piece, flaw)
        shadow = np.pad(outline, ((2, 0), (2, 0)), "edge")[:SIDE, :SIDE]
        image = paint(image, 0.5 * opacity(shadow, 4), (0.08, 0.08, 0.08))
        level = rng.normal(0.66, 0.02) + 0.015 * smooth_noise(rng, 1)
        image = lit(paint(image, opacity(outline), level), _relief(piece, outline, flaw), 0.22)
        if piece.flaw == "scratch":
            image = scratch(image, flaw, outline)
        if piece.flaw == "rust":
            image = stain(image, flaw, outline, (0.45, 0.2, 0.08))
        covered = np.minimum(covered, outline)
    return stain(image, flaw, -covered) if flaw.kind == "dirt" else image


def _pieces(rng: Random, flaw: Flaw) -> list[Piece]:
    """Pieces in random places and directions; one of a suitable kind has the flaw."""
    suitable = [number for number, kind in enumerate(_KINDS) if flaw.kind in _FLAWS_OF[kind]]
    wrong = suitable[flaw.one_of(len(suitable))] if suitable else None
    frames = [whole_image().moved(place, rng.uniform(0, 2 * np.pi), _SCALE) for place in _places(rng)]
    return [
        Piece(kind, frame, flaw.kind if number == wrong else "")
        for number, (kind, frame) in enumerate(zip(_KINDS, frames, strict=True))
    ]


def _places(rng: Random) -> NDArray[np.float64]:
    """Random places [N, 2] in which pieces do not touch one another."""
    reach = np.array([_REACH[kind] for kind in _KINDS])
    while True:
        places = rng.uniform(-1, 1, (len(_KINDS), 2)) * (SIDE / 2 - 0.8 * reach[:, None])
        distances = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
        if np.triu(distances < reach[:, None] + reach, 1).sum() == 0:
            return np.asarray(places)


def _washer(piece: Piece, flaw: Flaw) -> Field:
    frame, bore = piece.frame, 5.5
    if piece.flaw == "oval washer":
        frame = Frame(frame.x * (1 + flaw.between(0.06, 0.25)), frame.y)
    if piece.flaw == "narrow bore":
        bore -= flaw.between(0.8, 4)
    ring = np.maximum(frame.disc(11.5), -frame.disc(bore))
    if piece.flaw == "cut washer":
        ring = np.maximum(ring, -frame.moved((9, 0)).box(5, flaw.between(0.6, 2.5)))
    return ring


def _screw(piece: Piece, flaw: Flaw) -> Field:
    """A head, and a shank with a tip along the x axis."""
    frame, end = piece.frame, 22.0
    if piece.flaw == "bent screw":
        bend = flaw.sign() * flaw.between(0.004, 0.015)
        frame = Frame(frame.x, frame.y + bend * np.maximum(frame.x + 10, 0) ** 2)
    if piece.flaw == "blunt tip":
        end -= flaw.between(2.5, 8)
    tip = np.maximum(np.abs(frame.y) - np.clip(0.6 * (22 - frame.x), 0, 4), frame.x - end)
    shank = np.maximum(np.maximum(frame.moved((6, 0)).box(17, 4), tip), frame.x - end)
    return np.minimum(shank, frame.moved((-15, 0)).disc(8))


def _relief(piece: Piece, outline: Field, flaw: Flaw) -> Field:
    """Bevels; a screw has a thread and a slot, too."""
    relief = bevel(outline, 2)
    if piece.kind == "washer":
        return relief
    thread = np.sin(2 * np.pi * (piece.frame.x + 0.3 * piece.frame.y) / 3.5) * (piece.frame.x > -4)
    if piece.flaw == "worn thread":
        start, length = flaw.rng.uniform(-3, 8), flaw.between(4, 12)
        thread = thread * ~((piece.frame.x > start) & (piece.frame.x < start + length))
    slot = opacity(piece.frame.moved((-15, 0), 0.6).box(7, 1.2))
    return relief + (outline < 0) * thread - (0 if piece.flaw == "no slot" else 2) * slot
