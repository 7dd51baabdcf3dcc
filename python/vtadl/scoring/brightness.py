"""The brightness of the training images, and images that are darker or brighter."""

from typing import Any

import torch
from torch import Tensor

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision

_UNEQUAL_FRACTION = 0.25  # of the images; an anomaly may darken or brighten a few
_SIGNIFICANCE = 0.001  # of a number of images outside of the range
_MARGIN = 0.05  # added to the width of the range: no chance brings an image so far outside


def brightness(images: Tensor) -> Tensor:
    """Computes the mean grey levels [B] of images [B, 3, H, W] in [0, 1]."""
    return images.float().mean((1, 2, 3))


class BrightnessRange(FullPrecisionModule):
    """The range of the training images' brightness; the checkpoint keeps it."""

    @full_precision()
    def __init__(self) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        self.count: Tensor
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(1.0))
        self.register_buffer("count", torch.tensor(0))  # of training images; earlier versions counted none

    @in_full_precision
    def update(self, images: Tensor) -> None:
        """Adds training images [B, 3, H, W]."""
        levels = brightness(images).to(self.low.device)
        if self.count == 0:
            self.low.fill_(1)
            self.high.fill_(0)
        self.low.clamp_(max=levels.amin())
        self.high.clamp_(min=levels.amax())
        self.count += len(levels)

    def sentence(self, levels: Tensor) -> str:
        """Says that images of these levels [N] are lit unlike the training images; empty if they are not.

        The levels differ if at least a quarter of them lies outside of the range, and either so many would do
        so by chance with a probability of less than 0.001, or they lie so far outside that one is enough.
        """
        low, high = self.low.item(), self.high.item()
        outside = levels[(levels < low) | (levels > high)]
        far = high - low + _MARGIN
        num_far = int(((levels < low - far) | (levels > high + far)).sum())
        is_chance = self._chance(len(outside), len(levels)) >= _SIGNIFICANCE
        num_unequal = num_far if is_chance else len(outside)
        if not self.count or not num_unequal or num_unequal < _UNEQUAL_FRACTION * len(levels):
            return ""
        return (
            f"the brightness of {len(outside)} of {len(levels)} images lies outside that of training: their "
            f"mean grey levels are {outside.min():.3f} to {outside.max():.3f}, those of the training images "
            f"{low:.3f} to {high:.3f}; expose all images equally, or train with such images as well"
        )

    def _chance(self, num_outside: int, num_images: int) -> float:
        """Bounds the probability that so many images lie outside of the range by chance.

        If the images and the n training images come from one distribution, every order of their brightness
        is equally likely. The bound adds the probabilities of all ways in which the k lowest and highest of
        them are none of training.
        """
        ranks = torch.arange(num_outside, dtype=torch.float64)
        factors = (num_images - ranks) / (num_images + int(self.count) - ranks)
        return (num_outside + 1) * factors.prod().item()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        for name, buffer in self._buffers.items():  # checkpoints of earlier versions lack them
            state_dict.setdefault(prefix + name, buffer)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
