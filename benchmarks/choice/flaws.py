"""Flaws of drawn parts. None of them shares code with the anomalies by which experts are chosen."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.choice.drawing import Field, Frame, Image, Random, bevel, lit, opacity, paint, whole_image


class Flaw(NamedTuple):
    """What is wrong with one part; the kind `good` is nothing."""

    kind: str
    rng: Random  # of its own, so that everything else is drawn as without the flaw
    faintest: float = 0.0  # of sizes and contrasts: 0 is faint, 1 is plain

    def between(self, faint: float, plain: float) -> float:
        """A size or a contrast, log-uniform."""
        return faint * (plain / faint) ** self.rng.uniform(self.faintest, 1)

    def one_of(self, count: int) -> int:
        return int(self.rng.integers(count))

    def sign(self) -> int:
        return int(self.rng.choice([-1, 1]))

    def place(self, inside: NDArray[np.bool_]) -> tuple[float, float]:
        """A random pixel of a region, in the frame of the whole image."""
        frame, index = whole_image(), int(self.rng.choice(np.flatnonzero(inside)))
        return float(frame.x.flat[index]), float(frame.y.flat[index])


def good() -> Flaw:
    return Flaw("good", np.random.default_rng(0))


def surface_flaw(image: Image, flaw: Flaw, outline: Field) -> Image:
    """Scratches, cracks, stains and dents of the part inside of the outline; other kinds change nothing."""
    makers = {"scratch": scratch, "crack": crack, "stain": stain, "dent": dent}
    return makers[flaw.kind](image, flaw, outline) if flaw.kind in makers else image


def scratch(image: Image, flaw: Flaw, outline: Field) -> Image:
    """A furrow with a bright and a dark flank."""
    distance = whole_image().polyline(_wander(flaw, outline, flaw.between(8, 40), 0.12))
    relief = flaw.sign() * bevel(distance - flaw.between(0.8, 1.6), 2)
    return _inside(image, lit(image, relief, flaw.between(0.15, 0.6)), outline)


def crack(image: Image, flaw: Flaw, outline: Field) -> Image:
    """A dark jagged line."""
    distance = whole_image().polyline(_wander(flaw, outline, flaw.between(8, 40), 0.7))
    alpha = flaw.between(0.15, 0.7) * opacity(distance - flaw.between(0.3, 0.8))
    return _inside(image, paint(image, alpha, 0.3 * image.mean((0, 1))), outline)


def stain(image: Image, flaw: Flaw, outline: Field, colour: ArrayLike = (0.35, 0.25, 0.12)) -> Image:
    """A blot with a soft irregular border."""
    alpha = flaw.between(0.1, 0.5) * opacity(blob(flaw, outline, flaw.between(2.5, 9)), 3)
    return _inside(image, paint(image, alpha, colour), outline)


def dent(image: Image, flaw: Flaw, outline: Field) -> Image:
    """A shallow hollow, or a bump."""
    radius = flaw.between(3, 9)
    x, y = flaw.place(outline < -2)
    relief = flaw.sign() * np.exp(-((whole_image().moved((x, y)).radius / radius) ** 2)) * radius
    return _inside(image, lit(image, relief, flaw.between(0.08, 0.3)), outline)


def blob(flaw: Flaw, outline: Field, radius: float) -> Field:
    """Distance from an irregular patch in the part."""
    x, y = flaw.place(outline < -2)
    return bumpy(whole_image().moved((x, y)), flaw, radius)


def bumpy(frame: Frame, flaw: Flaw, radius: float) -> Field:
    """Distance from a disc with an irregular border."""
    waves = sum(
        np.cos(n * frame.angle + flaw.rng.uniform(0, 2 * np.pi)) * flaw.rng.uniform(0, 1 / n)
        for n in (2, 3, 5)
    )
    return np.asarray(frame.disc(radius) + 0.35 * radius * waves)


def chipped(outline: Field, flaw: Flaw, largest: float = 7.0) -> Field:
    """The outline with a bite out of its border, if the flaw is a chip."""
    if flaw.kind != "chip":
        return outline
    x, y = flaw.place(np.abs(outline) < 1)
    return np.maximum(outline, -bumpy(whole_image().moved((x, y)), flaw, flaw.between(2, largest)))


def _wander(flaw: Flaw, outline: Field, length: float, bend: float) -> NDArray[np.float64]:
    """Points [N, 2] of a line that starts in the part and changes its direction at random."""
    step = 4.0
    turns = flaw.rng.uniform(0, 2 * np.pi) + np.cumsum(
        bend * flaw.rng.standard_normal(int(length / step) + 1)
    )
    steps = step * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return np.asarray(flaw.place(outline < -2) + np.cumsum(steps, axis=0))


def _inside(image: Image, changed: Image, outline: Field) -> Image:
    return np.where(outline[..., None] < -0.5, changed, image)
