"""Images in any form that Python knows, made ready for the network; and maps laid back over them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from vtadl.data.images import MAX_PIXELS, numbers_of, open_image, upright
from vtadl.errors import InputError
from vtadl.images.pixels import Pixels, ResizeMode, check_numbers, resize_pixels, to_tensor

FORMS = "a path, a PIL image, an array [H, W] or [H, W, C], or a tensor [C, H, W], where C is 1, 3 or 4"


class Picture(NamedTuple):
    """An image ready for the network, and the height and width that it had."""

    pixels: Tensor  # [3, h, w] in [0, 1]
    size: tuple[int, int]


def prepare(
    images: Any, size: tuple[int, int], resize_mode: ResizeMode = "stretch", max_pixels: int = MAX_PIXELS
) -> tuple[list[Picture], bool]:
    """One image or several, fitted to `size` (height, width); and whether it was one."""
    batched = (
        images.ndim == 4 if isinstance(images, (np.ndarray, Tensor)) else isinstance(images, (list, tuple))
    )
    if batched:
        return [prepare_one(image, size, resize_mode, max_pixels) for image in images], False
    return [prepare_one(images, size, resize_mode, max_pixels)], True


def prepare_one(
    image: Any, size: tuple[int, int], resize_mode: ResizeMode = "stretch", max_pixels: int = MAX_PIXELS
) -> Picture:
    """One image, fitted to `size`.

    Raises:
        InputError: If a file cannot be read, or the image is none of the forms.
    """
    if isinstance(image, (str, Path)):
        return from_pil(open_image(Path(image).expanduser(), max_pixels), size, resize_mode, f"{image}")
    if isinstance(image, Image.Image):
        return from_pil(upright(image, "given in memory"), size, resize_mode)
    if isinstance(image, Tensor):
        return from_array(_channels_last(image), size, resize_mode, str(image.dtype))
    if isinstance(image, np.ndarray):
        return from_array(image[..., None] if image.ndim == 2 else image, size, resize_mode, str(image.dtype))
    raise InputError(f"an image must be {FORMS}, but this is a {type(image).__name__}")


def from_pil(
    image: Image.Image, size: tuple[int, int], resize_mode: ResizeMode, name: str = "given in memory"
) -> Picture:
    """An image of any mode, decoded and upright."""
    return _picture(numbers_of(image, name), size, resize_mode)


def from_array(values: Pixels, size: tuple[int, int], resize_mode: ResizeMode, kind: str) -> Picture:
    """An image [H, W, C] of integers, bools, or floats in [0, 1]; `kind` is what errors call them."""
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4) or not values.size:
        shape = [*values.shape[-1:], *values.shape[:-1]]
        raise InputError(f"an image must be {FORMS}, but this has the shape {shape}")
    check_numbers(values, kind)
    return _picture(values[..., :3], size, resize_mode)


def _picture(values: Pixels, size: tuple[int, int], resize_mode: ResizeMode) -> Picture:
    return Picture(to_tensor(resize_pixels(values, size, resize_mode)), (values.shape[0], values.shape[1]))


def _channels_last(image: Tensor) -> Pixels:
    """A tensor [C, H, W] as an array [H, W, C]."""
    if image.is_floating_point():
        image = image.float()  # NumPy has no bfloat16
    return np.moveaxis(image.detach().cpu().numpy(), 0, -1) if image.ndim else image.detach().cpu().numpy()
