"""How the references of SSIM read images, masks and data ranges."""

from typing import Any

import torch
from torch import Tensor

_LUMA = {
    "bt601": ((0.299, 0.587, 0.114), 0.0),
    "bt709": ((0.2126, 0.7152, 0.0722), 0.0),
    "matlab": ((65.481 / 255, 128.553 / 255, 24.966 / 255), 16 / 255),
}


def read_images(
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    data_range: Any,
    luma: str | None,
    crop_border: int,
    channels_last: bool,
) -> tuple[Tensor, Tensor, Tensor | None, float]:
    """The images as ``[*, C, *axes]`` of floats, the mask alike, and the data range as a number."""
    if mask is not None:
        mask = mask.expand(x.shape)
    if data_range is None:
        limits = None if x.is_floating_point() else torch.iinfo(x.dtype)
        data_range = 1.0 if limits is None else float(limits.max - limits.min)
    x, y = _floats(x), _floats(y)
    if isinstance(data_range, tuple | list):
        low, high = data_range
        x, y, data_range = x.clamp(low, high), y.clamp(low, high), high - low

    def read(image: Tensor) -> Tensor:
        if image.dim() == 2:
            image = image.unsqueeze(0)
        elif channels_last:
            image = image.movedim(-1, 0 if image.dim() == 3 else 1)
        if crop_border:
            inside = slice(crop_border, -crop_border)
            image = image[..., inside, inside]
            image = image[..., inside, :, :] if spatial_dims(image) == 3 else image
        return image

    x, y = read(x), read(y)
    valid = None if mask is None else read(mask)
    if luma is not None:
        weights, offset = _LUMA[luma]
        channel = -1 - spatial_dims(x)
        x, y = (
            sum(weight * part for weight, part in zip(weights, image.split(1, channel), strict=True))
            + offset * float(data_range)
            for image in (x, y)
        )
        valid = None if valid is None else valid.all(channel, keepdim=True)
    return x, y, valid, float(data_range)


def _floats(image: Tensor) -> Tensor:
    if image.is_floating_point():
        return image
    return image.double() if image.dtype.itemsize > 2 else image.float()


def spatial_dims(image: Tensor) -> int:
    return 3 if image.dim() == 5 else 2
