"""Shapes, textures and light, of which images are drawn."""

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.filters import gaussian

SIDE = 128  # pixels of a drawn image

Field = NDArray[np.float64]  # [H, W]
Image = NDArray[np.float64]  # [H, W, 3] in [0, 1]
Random = np.random.Generator


class Frame:
    """The coordinates of all pixels as a part sees them, and distances from shapes, negative inside."""

    def __init__(self, x: Field, y: Field) -> None:
        self.x, self.y = x, y
        self.radius, self.angle = np.hypot(x, y), np.arctan2(y, x)

    def moved(self, place: ArrayLike, angle: float = 0.0, scale: float = 1.0) -> "Frame":
        """The frame of a part at a point (x, y) of this one, turned and enlarged."""
        x, y = np.asarray(place, dtype=float)
        across, down, cos, sin = self.x - x, self.y - y, np.cos(angle), np.sin(angle)
        return Frame((across * cos + down * sin) / scale, (down * cos - across * sin) / scale)

    def nearest(self, places: Field) -> tuple[NDArray[np.intp], "Frame"]:
        """For each pixel, which of the places [N, 2] is nearest, and the coordinates relative to that one."""
        x, y = (axis - places[:, index, None, None] for index, axis in enumerate((self.x, self.y)))
        nearest = (x**2 + y**2).argmin(0)
        return nearest, Frame(self.x - places[nearest, 0], self.y - places[nearest, 1])

    def disc(self, radius: float | Field) -> Field:
        return self.radius - radius

    def box(self, half_width: float, half_height: float, rounding: float = 0.0) -> Field:
        x, y = np.abs(self.x) - half_width + rounding, np.abs(self.y) - half_height + rounding
        return np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0) - rounding

    def polyline(self, points: ArrayLike) -> Field:
        """Distance from line segments between successive points [N, 2]."""
        points = np.asarray(points, dtype=float)
        distance = np.full_like(self.x, np.inf)
        for start, end in pairwise(points):
            along = end - start
            x, y = self.x - start[0], self.y - start[1]
            nearest = np.clip((x * along[0] + y * along[1]) / max(along @ along, 1e-9), 0, 1)
            distance = np.minimum(distance, np.hypot(x - nearest * along[0], y - nearest * along[1]))
        return distance


def whole_image() -> Frame:
    """The frame in pixels whose origin is the middle of the image."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return Frame(x, y)


def jittered(rng: Random, shift: float = 0.7, angle: float = 0.02, scale: float = 0.008) -> Frame:
    """The frame of an aligned part; the arguments are standard deviations in pixels, radians and of 1."""
    return whole_image().moved(shift * rng.standard_normal(2), rng.normal(0, angle), rng.normal(1, scale))


def opacity(distance: Field, softness: float = 1.0) -> Field:
    """1 inside of a shape and 0 outside; the border is as wide as the softness, in pixels."""
    return np.clip(0.5 - distance / softness, 0, 1)


def paint(image: Image, alpha: Field, colour: ArrayLike) -> Image:
    """The image with a colour [3], or a field of grey levels [H, W], as opaque as alpha."""
    colour = np.asarray(colour, dtype=float)
    colour = colour[..., None] if colour.ndim == 2 else colour
    return image + alpha[..., None] * (colour - image)


def lit(image: Image, height: Field, strength: float, angle: float = -2.2) -> Image:
    """The image with the shading of a relief, in pixels, that is lit from an angle."""
    down, right = np.gradient(height)
    return image * (1 - strength * (np.cos(angle) * right + np.sin(angle) * down))[..., None]


def bevel(distance: Field, width: float) -> Field:
    """The relief of a shape whose border rises over a width, in pixels."""
    return np.clip(-distance, 0, width)


def smooth_noise(rng: Random, scale: float) -> Field:
    """Noise of unit variance whose structure is as coarse as the scale, in pixels."""
    noise = gaussian(rng.standard_normal((SIDE, SIDE)), scale, mode="wrap")
    return np.asarray(noise / noise.std())


def grey(field: Field) -> Image:
    return np.repeat(field[..., None], 3, axis=2)


def expose(image: Image, rng: Random, noise: float = 0.012) -> Image:
    """A photograph of the image: light of some gain and direction, a slightly blurred lens, noise, bytes."""
    frame = whole_image()
    gradient = (frame.x * rng.normal() + frame.y * rng.normal()) / SIDE
    light = rng.normal(1, 0.015) + 0.03 * gradient
    blurred = gaussian(image * light[..., None], 0.5, channel_axis=2)
    noisy = blurred + noise * rng.standard_normal((SIDE, SIDE, 1))
    return np.asarray(np.round(255 * np.clip(noisy, 0, 1)) / 255)
