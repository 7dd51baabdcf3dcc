"""Images of equal norm, for which the amount of bright pixels does not matter."""

import torch
from torch import Tensor

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision

_BRIGHTNESS = 0.6  # of the mean norm, so that few pixels are clipped to white


class EqualNorm(FullPrecisionModule):
    """Scales each image to the norm of normal images."""

    @full_precision()
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("norm", torch.zeros(()))
        self.norm: Tensor

    @in_full_precision
    def fit(self, images: Tensor) -> None:
        """Fits the norm to normal images [N, C, H, W]."""
        self.norm = _BRIGHTNESS * _norms(images).mean()

    @in_full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Scales images [B, C, H, W] in [0, 1], and clips them to that range."""
        return (images * (self.norm / _norms(images))[:, None, None, None]).clamp(max=1)


def _norms(images: Tensor) -> Tensor:
    return images.flatten(1).norm(dim=1).clamp(min=1e-6)
