"""What the comparison asks of a method."""

from typing import NamedTuple, Protocol

import torch.nn.functional as F
from torch import Tensor

from vtadl.images.smoothing import smooth
from vtadl.scoring.settings import ScoringSettings

_SMOOTHING = ScoringSettings().smoothing  # pixels


class Scores(NamedTuple):
    """The scores of some images; larger is more anomalous."""

    images: Tensor  # [B]
    positions: Tensor  # [B, rows, columns]


class Method(Protocol):
    """A way to score images by the features of their positions.

    `images` are [N, 3, H, W], and `features`, which are computed once for all methods, are [N, P, F].
    """

    name: str

    def fit(self, images: Tensor, features: Tensor) -> None:
        """Fits the method to normal images."""

    def score(self, images: Tensor, features: Tensor) -> Scores:
        """Scores images."""


def anomaly_maps(positions: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps [B, 1, H, W] of scores [B, rows, columns], with the size and the smoothing of all methods."""
    return smooth(F.interpolate(positions[:, None], size, mode="bilinear"), _SMOOTHING)
