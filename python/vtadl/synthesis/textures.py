"""Textures of formulas: what an image may show when nothing is known of it."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_LEAVES = 128  # in an image


class Placed(NamedTuple):
    """Leaves of one layer, one in each image."""

    row: Tensor  # all [N, 1, 1], in pixels
    column: Tensor
    angle: Tensor
    length: Tensor
    width: Tensor


def make_textures(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Random textures [N, 3, H, W] in [0, 1], of any brightness, contrast, colour and direction.

    A third are noise whose spectrum is a power of the frequency, a third shapes that lie on one another
    (dead leaves: Lee, Mumford and Huang, 2001), and a third something of both (as pictures to learn from:
    Baradad et al., "Learning to see by looking at noise", 2021).
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, channels, 1, 1, generator=generator)

    noise, leaves = (make(count, size, generator)[:, None] for make in (_noise, _leaves))
    share = uniform(-1, 2).clamp(0, 1)
    structure = share.sqrt() * noise + (1 - share).sqrt() * leaves
    contrast = uniform(math.log(0.02), math.log(0.3)).exp()
    saturation = uniform(0, 0.5)
    mean = uniform(0.1, 0.9) + saturation * uniform(-0.5, 0.5, 3)
    return (mean + contrast * (1 + saturation * uniform(-1, 1, 3)) * structure).clamp(0, 1)


def _noise(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Noise [N, H, W] of unit variance, its amplitude a power of the frequency, stretched in a direction."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    rows, columns = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])
    angle, stretch = uniform(0, math.pi), uniform(0, math.log(2)).exp()
    along = (columns * angle.cos() + rows * angle.sin()) * stretch
    across = (rows * angle.cos() - columns * angle.sin()) / stretch
    knee = uniform(math.log(1 / max(size)), math.log(0.5)).exp()  # white below this frequency
    amplitude = (along.square() + across.square() + knee.square()).pow(-uniform(0, 1.5))
    amplitude[:, 0, 0] = 0
    phases = torch.randn(2, *amplitude.shape, generator=generator)
    return _standardise(torch.fft.irfft2(torch.complex(*phases) * amplitude, size, norm="ortho"))


def _leaves(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Ellipses and oblongs [N, H, W] of one grey each, that cover one another; of unit variance."""

    def draw(distribution: str = "rand") -> Tensor:
        return getattr(torch, distribution)(count, 1, 1, generator=generator)

    radius = 0.25 * min(size) * 0.1 ** draw()
    image = torch.zeros(count, *size)
    for _ in range(_LEAVES):
        length, elongation = radius * 2 ** draw("randn"), 2 ** draw()
        leaf = Placed(
            size[0] * draw(), size[1] * draw(), math.pi * draw(), length * elongation, length / elongation
        )
        image = torch.where(_inside(leaf, size, draw() < 0.5), draw("randn"), image)
    return _standardise(image)


def _inside(leaf: Placed, size: tuple[int, int], oblong: Tensor) -> Tensor:
    rows, columns = torch.arange(size[0])[:, None] - leaf.row, torch.arange(size[1]) - leaf.column
    along = ((columns * leaf.angle.cos() + rows * leaf.angle.sin()) / leaf.length).square()
    across = ((rows * leaf.angle.cos() - columns * leaf.angle.sin()) / leaf.width).square()
    return torch.where(oblong, torch.maximum(along, across), along + across) < 1


def _standardise(images: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(images, (1, 2), keepdim=True)
    return (images - mean) / (deviation + 1e-3)
