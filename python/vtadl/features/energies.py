"""Local means and energies around a grid of positions: features without trained parameters."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision
from vtadl.errors import InputError
from vtadl.features.extractor import FeatureExtractor
from vtadl.images.smoothing import averaging_matrix

_SIDE = 3  # of the filters, in pixels
_FLOOR_IMAGES = 64  # from which the floor is estimated
_FLOOR = 0.003  # of the mean energy; it keeps the logarithm finite for flat windows


class LocalEnergies(FeatureExtractor):
    """For each channel, its local mean and the logarithms of the local energies of its fine structure.

    The energies are the squared responses to the eight cosine filters of 3 x 3 pixels that have no mean
    (texture energy: Laws, 1980), averaged locally. Their logarithms are nearly Gaussian, so that too little
    structure is as unlikely as too much. In a density of pixels, a smooth window is likelier than a normal
    one, which hides an abnormal colour.
    """

    @full_precision()
    def __init__(self, image_size: tuple[int, int], stride: int) -> None:
        """Builds the filters.

        Raises:
            InputError: If the stride does not divide the image.
        """
        super().__init__()
        self.grid = self.grid_of(image_size, stride)
        step = math.gcd(stride, 2)  # pixels between the positions whose logarithms are averaged
        self.inner, self.outer = Averaging(image_size, step), Averaging(image_size, stride, step)
        self.register_buffer("filters", cosine_filters(_SIDE), persistent=False)
        self.register_buffer("floor", torch.zeros(0))  # [C], energies
        self.filters: Tensor
        self.floor: Tensor

    @in_full_precision
    def fit(self, images: Tensor) -> None:
        """Fits the floor of the energies to normal images [N, C, H, W]."""
        some = images[:: math.ceil(len(images) / _FLOOR_IMAGES)]
        energies = [self._energies(chunk).mean((0, 2, 3, 4)) for chunk in some.split(16)]
        self.floor = _FLOOR * torch.stack(energies).mean(0) + 1e-8

    @in_full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Turns images [B, C, H, W] into means and log-energies [B, P, 9 * C]."""
        energies = self._energies(images) + self.floor[:, None, None, None]
        values = torch.cat([self.inner(images)[:, :, None], energies.log()], dim=2)
        return self.outer(values.flatten(1, 2)).flatten(2).transpose(1, 2)

    def _energies(self, images: Tensor) -> Tensor:
        """Local energies [B, C, 8, rows, columns]."""
        channels = F.pad(images.flatten(0, 1)[:, None], (_SIDE // 2,) * 4, mode="reflect")
        responses = F.conv2d(channels, self.filters)
        return self.inner(responses.square()).unflatten(0, images.shape[:2])


class MultiscaleEnergies(FeatureExtractor):
    """The local means and energies of an image and of its half-sized copy, side by side."""

    @full_precision()
    def __init__(self, image_size: tuple[int, int], stride: int) -> None:
        """Builds the filters.

        Raises:
            InputError: If the stride does not divide the image, or a size is odd.
        """
        super().__init__()
        if any(size % 2 for size in (*image_size, stride)):
            height, width = image_size
            raise InputError(
                f"image_size {height}x{width} and stride {stride} have to be even for multiscale-energies"
            )
        self.grid = self.grid_of(image_size, stride)
        self.fine = LocalEnergies(image_size, stride)
        self.coarse = LocalEnergies((image_size[0] // 2, image_size[1] // 2), stride // 2)

    @in_full_precision
    def fit(self, images: Tensor) -> None:
        """Fits the floors of the energies to normal images [N, C, H, W]."""
        self.fine.fit(images)
        self.coarse.fit(F.avg_pool2d(images, 2))

    @in_full_precision
    def forward(self, images: Tensor, fine: Tensor | None = None) -> Tensor:
        """Turns images [B, C, H, W] into means and log-energies [B, P, 18 * C].

        `fine` are those of the images [B, P, 9 * C] by :class:`LocalEnergies`, if they are known.
        """
        fine = self.fine(images) if fine is None else fine
        return torch.cat([fine, self.coarse(F.avg_pool2d(images, 2))], dim=2)


class Averaging(FullPrecisionModule):
    """A Gaussian filter of one pixel and the mean over cells, as products with two matrices."""

    @full_precision()
    def __init__(self, image_size: tuple[int, int], cell: int, pixel: int = 1) -> None:
        """Averages cells of `cell` pixels a side; the given values lie `pixel` pixels apart."""
        super().__init__()
        for name, size in zip(("rows", "columns"), image_size, strict=True):
            matrix = averaging_matrix(size // pixel, cell // pixel, 1 / pixel)
            self.register_buffer(name, matrix, persistent=False)
        self.rows: Tensor
        self.columns: Tensor

    @in_full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Turns images [*, H, W] into the means of their cells."""
        across = F.linear(images, self.columns)
        return F.linear(across.transpose(-1, -2), self.rows).transpose(-1, -2)


def cosine_filters(side: int) -> Tensor:
    """Orthonormal filters [side² - 1, 1, side, side] of the discrete cosine transform, without the mean."""
    positions = torch.arange(side, dtype=torch.float32)
    waves = torch.cos(math.pi * positions[:, None] * (positions + 0.5) / side)
    waves = waves / waves.norm(dim=1, keepdim=True)
    return torch.einsum("ia,jb->ijab", waves, waves).flatten(0, 1)[1:, None]
