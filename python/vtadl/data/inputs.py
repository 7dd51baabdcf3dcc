"""Conversion of images of any type, such as paths, arrays and tensors, to the input of the network."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from vtadl.data.images import MAX_PIXELS, apply_orientation, open_image, pixel_array
from vtadl.errors import InputError
from vtadl.images.pixels import Pixels, ResizeMode, check_pixel_values, resize_pixels, to_tensor

_ACCEPTED = "a path, a PIL image, an array [H, W] or [H, W, C], or a tensor [C, H, W], where C is 1, 3 or 4"


class PreparedImage(NamedTuple):
    """An image that is ready for the network."""

    pixels: Tensor  # [3, h, w] in [0, 1]
    size: tuple[int, int]  # original height and width


def prepare_images(
    images: Any, size: tuple[int, int], resize_mode: ResizeMode = "stretch", max_pixels: int = MAX_PIXELS
) -> tuple[list[PreparedImage], bool]:
    """Prepares one image or several.

    Args:
        images: An image, a list of images, or a batch as an array or a tensor of four dimensions.
        size: Height and width of the network's input.
        resize_mode: How an image gets that size; see :func:`vtadl.images.pixels.resize_pixels`.
        max_pixels: Files with more pixels are refused.

    Returns:
        The prepared images, and whether `images` was a single one.

    Raises:
        InputError: If a file cannot be read, or an image has another type or shape.
    """
    is_batch = (
        images.ndim == 4 if isinstance(images, (np.ndarray, Tensor)) else isinstance(images, (list, tuple))
    )
    if is_batch:
        return [prepare_image(image, size, resize_mode, max_pixels) for image in images], False
    return [prepare_image(images, size, resize_mode, max_pixels)], True


def prepare_image(
    image: Any, size: tuple[int, int], resize_mode: ResizeMode = "stretch", max_pixels: int = MAX_PIXELS
) -> PreparedImage:
    """Prepares one image; arguments and errors are those of :func:`prepare_images`."""
    if isinstance(image, (str, Path)):
        return from_pil(open_image(Path(image).expanduser(), max_pixels), size, resize_mode, f"{image}")
    if isinstance(image, Image.Image):
        return from_pil(apply_orientation(image, "given in memory"), size, resize_mode)
    if isinstance(image, Tensor):
        return from_array(_channels_last(image), size, resize_mode, str(image.dtype))
    if isinstance(image, np.ndarray):
        return from_array(image[..., None] if image.ndim == 2 else image, size, resize_mode, str(image.dtype))
    raise InputError(f"an image must be {_ACCEPTED}, but this is a {type(image).__name__}")


def from_pil(
    image: Image.Image, size: tuple[int, int], resize_mode: ResizeMode, name: str = "given in memory"
) -> PreparedImage:
    """Prepares an upright PIL image of any mode; `name` is its name in errors."""
    return _prepare_pixels(pixel_array(image, name), size, resize_mode)


def from_array(values: Pixels, size: tuple[int, int], resize_mode: ResizeMode, dtype: str) -> PreparedImage:
    """Prepares an array [H, W, C] of integers, bools, or floats in [0, 1]; `dtype` is its name in errors."""
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4) or not values.size:
        shape = [*values.shape[-1:], *values.shape[:-1]]
        raise InputError(f"an image must be {_ACCEPTED}, but this has the shape {shape}")
    check_pixel_values(values, dtype)
    return _prepare_pixels(values[..., :3], size, resize_mode)


def _prepare_pixels(values: Pixels, size: tuple[int, int], resize_mode: ResizeMode) -> PreparedImage:
    return PreparedImage(
        to_tensor(resize_pixels(values, size, resize_mode)), (values.shape[0], values.shape[1])
    )


def _channels_last(image: Tensor) -> Pixels:
    """Converts a tensor [C, H, W] to an array [H, W, C]."""
    if image.is_floating_point():
        image = image.float()  # NumPy does not support bfloat16
    return np.moveaxis(image.detach().cpu().numpy(), 0, -1) if image.ndim else image.detach().cpu().numpy()
