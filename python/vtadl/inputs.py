"""Images in any form that Python knows, made ready for the network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vtadl.data.images import as_rgb, image_tensor, open_image
from vtadl.errors import InputError

FORMS = "a path, a PIL image, an array [H, W] or [H, W, C], or a tensor [C, H, W], where C is 1, 3 or 4"


class Picture(NamedTuple):
    """An image ready for the network, and the height and width that it had."""

    pixels: Tensor  # [3, h, w] in [0, 1]
    size: tuple[int, int]


def prepare(images: Any, size: tuple[int, int]) -> tuple[list[Picture], bool]:
    """One image or several, resized to `size` (height, width); and whether it was one."""
    dims = 3 if isinstance(images, (np.ndarray, Tensor)) else None
    if isinstance(images, Sequence) and not isinstance(images, str) or dims and images.ndim > dims:
        return [prepare_one(image, size) for image in images], False
    return [prepare_one(images, size)], True


def prepare_one(image: Any, size: tuple[int, int]) -> Picture:
    """One image, resized to `size`.

    Raises:
        InputError: If a file cannot be read, or the image is none of the forms.
    """
    if isinstance(image, (str, Path)):
        return from_pil(open_image(Path(image)), size)
    if isinstance(image, Image.Image):
        return from_pil(as_rgb(image), size)
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim in (2, 3):
            channels = image.shape[2] if image.ndim == 3 else 1
            if channels in (1, 3, 4):
                return from_pil(as_rgb(Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image)), size)
        image = torch.from_numpy(np.ascontiguousarray(image if image.ndim != 2 else image[..., None]))
        image = image.movedim(-1, 0) if image.ndim == 3 else image
    if isinstance(image, Tensor):
        return from_tensor(image, size)
    raise InputError(f"an image must be {FORMS}, but this is a {type(image).__name__}")


def from_pil(image: Image.Image, size: tuple[int, int]) -> Picture:
    """An RGB image, resized as the images of training are."""
    return Picture(image_tensor(image, size), (image.height, image.width))


def from_tensor(image: Tensor, size: tuple[int, int]) -> Picture:
    """An image [C, H, W] of bytes or of floats in [0, 1]."""
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4):
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
    return Picture(resize(pixels[None], size)[0], (image.shape[1], image.shape[2]))


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [B, 3, H, W] in another size, without aliasing."""
    return F.interpolate(images, size, mode="bilinear", antialias=True)
