"""Variation between takes: how the same subject differs from one exposure to the next."""

from typing import NamedTuple

import torch
from torch import Tensor

from vtadl.synthesis.noise import estimate_noise

_MIN_GAIN_STD = 0.02  # future takes vary at least this much, even if those at hand do not
_MAX_GAIN_STD = 0.1  # images whose brightness varies more differ in their subject
_DARK_QUANTILE = 0.05
_MAX_QUANTILE_PIXELS = 2**14
_MAD_OF_NORMAL = 0.6745


class TakeVariation(NamedTuple):
    """How much takes of the same subject differ, on a scale of grey levels from 0 to 1."""

    noise_std: float  # the largest standard deviation of additional white noise
    gain_std: float  # of a factor around 1
    offset_std: float  # of a term around 0


def estimate_takes(images: Tensor) -> TakeVariation:
    """Estimates the variation of takes from normal images [N, C, H, W] in [0, 1].

    The noise is the median of the estimates for single images. The gain varies as the mean brightness of the
    images does, and the offset as their dark pixels do, within limits, because subjects differ as well.
    """
    brightness = images.float().mean((1, 2, 3))
    mean = brightness.mean().item()
    gain_std = _robust_std(brightness) / max(mean, 1e-6)
    offset_std = _robust_std(_dark_levels(images))
    return TakeVariation(
        noise_std=estimate_noise(images).median().item(),
        gain_std=min(max(gain_std, _MIN_GAIN_STD), _MAX_GAIN_STD),
        offset_std=min(max(offset_std, _MIN_GAIN_STD * mean / 2), _MAX_GAIN_STD * mean / 2),
    )


def vary_takes(images: Tensor, variation: TakeVariation, seed: int = 0) -> Tensor:
    """Varies gain, offset and noise of normal images [N, C, H, W] as a new recording would.

    A setting that mistakes this variation for an anomaly must not be chosen, however well it detects
    synthetic anomalies: future images differ from the training images in the same way. The noise has a
    standard deviation from 0 to `variation.noise_std`, and is the same in all channels.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(len(images), 1, *size, generator=generator).clamp(-2, 2).to(images)

    gain = 1 + variation.gain_std * normal(1, 1)
    offset = variation.offset_std * normal(1, 1)
    noise_std = variation.noise_std * torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
    noise = torch.randn(len(images), 1, *images.shape[-2:], generator=generator).to(images)
    return (gain * images + offset + noise_std * noise).clamp(0, 1)


def _dark_levels(images: Tensor) -> Tensor:
    """Returns the grey level [N] that few pixels of an image are below."""
    grey = images.float().mean(1).flatten(1)
    pixels = grey[:, :: -(-grey.shape[1] // _MAX_QUANTILE_PIXELS)]
    return pixels.quantile(_DARK_QUANTILE, dim=1)


def _robust_std(values: Tensor) -> float:
    return ((values - values.median()).abs().median() / _MAD_OF_NORMAL).item()
