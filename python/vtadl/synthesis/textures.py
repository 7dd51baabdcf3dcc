"""Procedural textures: a model of images about which nothing is known."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_LEAVES_PER_IMAGE = 128


class Leaf(NamedTuple):
    """One leaf of the dead-leaves model in each of N images."""

    row: Tensor  # [N, 1, 1] of the centre, in pixels
    column: Tensor  # [N, 1, 1] of the centre, in pixels
    angle: Tensor  # [N, 1, 1] in radians
    length: Tensor  # [N, 1, 1] half axis, in pixels
    width: Tensor  # [N, 1, 1] half axis, in pixels


def make_textures(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Makes random textures [N, 3, H, W] in [0, 1] that vary in brightness, contrast, colour and direction.

    A third of them are noise whose spectrum is a power of the frequency, a third are shapes that occlude one
    another (the dead-leaves model: Lee, Mumford and Huang, 2001), and a third are mixtures of both. Baradad
    et al., "Learning to see by looking at noise", 2021, train networks on such images.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, channels, 1, 1, generator=generator)

    noise, leaves = (make(count, size, generator)[:, None] for make in (_noise, _leaves))
    noise_fraction = uniform(-1, 2).clamp(0, 1)
    structure = noise_fraction.sqrt() * noise + (1 - noise_fraction).sqrt() * leaves
    contrast = uniform(math.log(0.02), math.log(0.3)).exp()
    saturation = uniform(0, 0.5)
    mean = uniform(0.1, 0.9) + saturation * uniform(-0.5, 0.5, 3)
    return (mean + contrast * (1 + saturation * uniform(-1, 1, 3)) * structure).clamp(0, 1)


def _noise(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Makes noise [N, H, W] of unit variance.

    Its spectral amplitude is a power of the frequency, and it is stretched in a random direction.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    rows, columns = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])
    angle, stretch = uniform(0, math.pi), uniform(0, math.log(2)).exp()
    along = (columns * angle.cos() + rows * angle.sin()) * stretch
    across = (rows * angle.cos() - columns * angle.sin()) / stretch
    corner = uniform(math.log(1 / max(size)), math.log(0.5)).exp()  # the noise is white below this frequency
    amplitude = (along.square() + across.square() + corner.square()).pow(-uniform(0, 1.5))
    amplitude[:, 0, 0] = 0
    phases = torch.randn(2, *amplitude.shape, generator=generator)
    return _standardise(torch.fft.irfft2(torch.complex(*phases) * amplitude, size, norm="ortho"))


def _leaves(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Makes images [N, H, W] of unit variance from grey ellipses and rectangles that occlude one another."""

    def draw(distribution: str = "rand") -> Tensor:
        return getattr(torch, distribution)(count, 1, 1, generator=generator)

    radius = 0.25 * min(size) * 0.1 ** draw()
    image = torch.zeros(count, *size)
    for _ in range(_LEAVES_PER_IMAGE):
        length, elongation = radius * 2 ** draw("randn"), 2 ** draw()
        leaf = Leaf(
            size[0] * draw(), size[1] * draw(), math.pi * draw(), length * elongation, length / elongation
        )
        image = torch.where(_inside(leaf, size, draw() < 0.5), draw("randn"), image)
    return _standardise(image)


def _inside(leaf: Leaf, size: tuple[int, int], is_rectangle: Tensor) -> Tensor:
    """Returns which pixels [N, H, W] lie inside the leaf."""
    rows, columns = torch.arange(size[0])[:, None] - leaf.row, torch.arange(size[1]) - leaf.column
    along = ((columns * leaf.angle.cos() + rows * leaf.angle.sin()) / leaf.length).square()
    across = ((rows * leaf.angle.cos() - columns * leaf.angle.sin()) / leaf.width).square()
    return torch.where(is_rectangle, torch.maximum(along, across), along + across) < 1


def _standardise(images: Tensor) -> Tensor:
    std, mean = torch.std_mean(images, (1, 2), keepdim=True)
    return (images - mean) / (std + 1e-3)
