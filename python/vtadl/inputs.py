"""Images in any form that Python knows, made ready for the network; and maps laid back over them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vtadl.data.images import Fit, fitted_size, open_image, resized_pixels, to_tensor
from vtadl.errors import InputError

FORMS = "a path, a PIL image, an array [H, W] or [H, W, C], or a tensor [C, H, W], where C is 1, 3 or 4"


class Picture(NamedTuple):
    """An image ready for the network, and the height and width that it had."""

    pixels: Tensor  # [3, h, w] in [0, 1]
    size: tuple[int, int]


def prepare(images: Any, size: tuple[int, int], fit: Fit = "stretch") -> tuple[list[Picture], bool]:
    """One image or several, resized to `size` (height, width); and whether it was one."""
    batched = (
        images.ndim == 4 if isinstance(images, (np.ndarray, Tensor)) else isinstance(images, (list, tuple))
    )
    if batched:
        return [prepare_one(image, size, fit) for image in images], False
    return [prepare_one(images, size, fit)], True


def prepare_one(image: Any, size: tuple[int, int], fit: Fit = "stretch") -> Picture:
    """One image, resized to `size`.

    Raises:
        InputError: If a file cannot be read, or the image is none of the forms.
    """
    if isinstance(image, (str, Path)):
        return from_pil(open_image(Path(image)), size, fit, str(image))
    if isinstance(image, Image.Image):
        return from_pil(image, size, fit)
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "biuf":
            raise InputError(f"an image must hold bytes, or floats in [0, 1], but this holds {image.dtype}")
        channels = image[..., None] if image.ndim == 2 else image
        if (
            image.dtype == np.uint8
            and channels.size
            and channels.ndim == 3
            and channels.shape[2] in (1, 3, 4)
        ):
            return from_pil(
                Image.fromarray(channels[..., 0] if channels.shape[2] == 1 else channels), size, fit
            )
        image = torch.from_numpy(np.ascontiguousarray(channels)).movedim(-1, 0)
    if isinstance(image, Tensor):
        return from_tensor(image, size, fit)
    raise InputError(f"an image must be {FORMS}, but this is a {type(image).__name__}")


def from_pil(image: Image.Image, size: tuple[int, int], fit: Fit, name: str = "given in memory") -> Picture:
    """An image of any mode, resized as the images of training are."""
    return Picture(to_tensor(resized_pixels(image, size, fit, name)), (image.height, image.width))


def from_tensor(image: Tensor, size: tuple[int, int], fit: Fit) -> Picture:
    """An image [C, H, W] of bytes or of floats in [0, 1]."""
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4) or not image.numel():
        raise InputError(f"an image must be {FORMS}, but this has the shape {list(image.shape)}")
    if not image.is_floating_point() and image.dtype != torch.uint8:
        raise InputError(f"an image must hold bytes, or floats in [0, 1], but this holds {image.dtype}")
    pixels = image[:3].float().cpu().expand(3, -1, -1)
    if image.dtype == torch.uint8:
        pixels = pixels / 255
    elif not (pixels.min() >= 0 and pixels.max() <= 1):
        raise InputError(
            f"an image of floats must lie in [0, 1], but this goes from {pixels.min():g} to {pixels.max():g}"
        )
    whole = (image.shape[1], image.shape[2])
    rows, columns = seen(whole, size, fit)
    return Picture(resize(pixels[None, :, rows, columns], fitted_size(whole, size, fit))[0], whole)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [B, 3, H, W] in another size, without aliasing."""
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def lay_over(maps: Tensor, size: tuple[int, int], fit: Fit, outside: Tensor) -> Tensor:
    """Maps [B, 1, h, w] in the size of their images; `outside` is for what the network did not see."""
    rows, columns = seen(size, (maps.shape[-2], maps.shape[-1]), fit)
    whole = outside.to(maps.dtype).expand(*maps.shape[:2], *size).clone()
    part = whole[..., rows, columns]
    part.copy_(F.interpolate(maps, part.shape[-2:], mode="bilinear"))
    return whole


def seen(whole: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[slice, slice]:
    """Rows and columns of an image that are seen: all, or to crop the middle with the ratio of `size`."""
    height, width = whole
    if fit == "crop":
        height, width = (
            min(height, round(width * size[0] / size[1])),
            min(width, round(height * size[1] / size[0])),
        )
    top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
    return slice(top, top + height), slice(left, left + width)
