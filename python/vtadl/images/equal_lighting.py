"""Images whose lighting is as in training, so that another gain or offset does not make them abnormal."""

from typing import Any

import torch
from torch import Tensor

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision

_MAX_PIXELS = 2**14  # of an image, from which its lighting is estimated
_TRIMMED = 0.05  # of the darkest and of the brightest pixels, which a small anomaly can change
_MAX_GAIN = 2.0  # what differs more is no matter of lighting
_MAX_SHIFT = 0.25  # of the brightness; a black or a white image among grey ones differs more
_ROUNDING = 1e-4  # of brightness and contrast, by which the same image may differ from one batch to another
_CHUNK = 64  # images whose lighting is estimated at once


class EqualLighting(FullPrecisionModule):
    """Brings images whose brightness or contrast lies outside of the range in training to its limit.

    Another exposure multiplies all grey levels by a gain and adds an offset. Brightness is the mean and
    contrast the standard deviation of the grey levels, without the darkest and the brightest ones. Images
    within the range stay as they are: their variation was learned. Images that are too far outside for
    another exposure to explain it are brought closer, and stay outside.
    """

    @full_precision()
    def __init__(self) -> None:
        super().__init__()
        limits = torch.tensor([[-torch.inf, -torch.inf], [torch.inf, torch.inf]])
        self.register_buffer("limits", limits)
        self.limits: Tensor  # smallest and largest, of brightness and of contrast [2, 2]

    @in_full_precision
    def fit(self, images: Tensor) -> None:
        """Fits the range to normal images [N, C, H, W]."""
        lighting = torch.cat([_lighting(chunk) for chunk in images.split(_CHUNK)])
        self.limits = torch.stack([lighting.amin(0) - _ROUNDING, lighting.amax(0) + _ROUNDING])

    @in_full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Equalises the lighting of images [B, C, H, W] in [0, 1], and clips them to that range."""
        present = _lighting(images)
        wanted = present.clamp(self.limits[0], self.limits[1])
        brightness, contrast = present.view(-1, 2, 1, 1, 1).unbind(1)
        wanted_brightness, wanted_contrast = wanted.view(-1, 2, 1, 1, 1).unbind(1)
        gain = (wanted_contrast / contrast.clamp(min=1e-6)).clamp(1 / _MAX_GAIN, _MAX_GAIN)
        gain = torch.where(wanted_contrast == contrast, 1.0, gain)
        shift = (wanted_brightness - brightness).clamp(-_MAX_SHIFT, _MAX_SHIFT)
        equalised = ((images - brightness) * gain + brightness + shift).clamp(0, 1)
        is_within = (wanted == present).all(1).view(-1, 1, 1, 1)
        return torch.where(is_within, images, equalised)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        state_dict.setdefault(f"{prefix}limits", self.limits)  # checkpoints of earlier versions lack it
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _lighting(images: Tensor) -> Tensor:
    """Brightness and contrast [B, 2] of images [B, C, H, W]."""
    grey = images.mean(1).flatten(1)
    grey = grey[:, :: -(-grey.shape[1] // _MAX_PIXELS)]
    trimmed = int(_TRIMMED * grey.shape[1])
    levels = grey.sort(dim=1).values[:, trimmed : grey.shape[1] - trimmed]
    return torch.stack([levels.mean(1), levels.std(1, correction=0)], dim=1)
