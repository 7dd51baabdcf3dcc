"""Images of equal norm, so that how much there is in one says nothing."""

import torch
from torch import Tensor

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision

_BRIGHTNESS = 0.6  # of the mean norm, so that little of an image reaches white


class EqualNorm(FullPrecisionModule):
    """Multiplies each image so that its norm is that of normal images."""

    @full_precision()
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("norm", torch.zeros(()))
        self.norm: Tensor

    @in_full_precision
    def fit(self, images: Tensor) -> None:
        """Takes the mean norm of normal images [N, C, H, W]."""
        self.norm = _BRIGHTNESS * _norms(images).mean()

    @in_full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1]."""
        return (images * (self.norm / _norms(images))[:, None, None, None]).clamp(max=1)


def _norms(images: Tensor) -> Tensor:
    return images.flatten(1).norm(dim=1).clamp(min=1e-6)
