"""Screws and washers that lie in any place and direction on a conveyor belt: not aligned, nearly grey."""

from typing import NamedTuple

import numpy as np

from benchmarks.choice.drawing import (
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
from benchmarks.choice.flaws import Flaw, stain, surface_flaw

_WASHER_FLAWS = ("cut washer", "narrow bore", "oval washer")
_SCREW_FLAWS = ("worn thread", "blunt tip", "no slot", "bent screw")
FLAWS = (*_WASHER_FLAWS, *_SCREW_FLAWS, "scratch", "rust", "dirt")
_KINDS = ("screw", "screw", "washer", "washer", "washer")
_REACH = {"screw": 23.0, "washer": 13.0}  # pixels around the middle


class Piece(NamedTuple):
    kind: str
    frame: Frame
    flaw: str  # the kind of flaw, if this piece has it


def draw(rng: Random, flaw: Flaw) -> Image:
    image = grey(0.3 + 0.015 * smooth_noise(rng, 0.8) + 0.015 * smooth_noise(rng, 5)) * [0.95, 1.02, 1]
    covered = np.full_like(image[..., 0], np.inf)
    for piece in _pieces(rng, flaw):
        outline = _washer(piece, flaw) if piece.kind == "washer" else _screw(piece, flaw)
        image = paint(image, 0.5 * opacity(np.roll(outline, (2, 2), (0, 1)), 4), (0.08, 0.08, 0.08))
        level = rng.normal(0.66, 0.02) + 0.015 * smooth_noise(rng, 1)
        image = paint(image, opacity(outline), level)
        image = lit(image, _relief(piece, outline, flaw), 0.22)
        if piece.flaw in ("scratch", "rust"):
            image = (
                _rust(image, flaw, outline) if piece.flaw == "rust" else surface_flaw(image, flaw, outline)
            )
        covered = np.minimum(covered, outline)
    return stain(image, flaw, -covered) if flaw.kind == "dirt" else image


def _pieces(rng: Random, flaw: Flaw) -> list[Piece]:
    """Pieces that do not touch one another; the first one of a suitable kind has the flaw."""
    wanted = {"screw": _SCREW_FLAWS, "washer": _WASHER_FLAWS}
    places: list[np.ndarray] = []
    while len(places) < len(_KINDS):
        places = []
        for kind in _KINDS:
            for _ in range(20):
                place = rng.uniform(-64 + 0.8 * _REACH[kind], 64 - 0.8 * _REACH[kind], 2)
                gaps = [np.hypot(*(place - p)) - _REACH[k] for p, k in zip(places, _KINDS, strict=False)]
                if min(gaps, default=np.inf) > _REACH[kind]:
                    places.append(place)
                    break
            else:
                break
    pieces, free = [], flaw.kind
    for kind, place in zip(_KINDS, places, strict=True):
        own = free if free in (*wanted[kind], "scratch", "rust") else ""
        free = "" if own else free
        pieces.append(Piece(kind, whole_image().moved(place, rng.uniform(0, 2 * np.pi)), own))
    return pieces


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


def _rust(image: Image, flaw: Flaw, outline: Field) -> Image:
    return stain(image, flaw, outline + 1, (0.45, 0.2, 0.08))
