"""Reading of image files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vtadl.data.formats import DECODER_ERRORS, FORMATS
from vtadl.errors import InputError
from vtadl.images.pixels import Pixels, ResizeMode, max_value, resize_pixels

MAX_PIXELS = 500_000_000  # the default limit of a file, which takes 2 GB when it is decoded in colour
_ORIENTATION = 0x0112  # the EXIF tag of the orientation; the values 5 to 8 exchange height and width
_pillow_limit = Lock()


def read_pixels(
    path: Path, size: tuple[int, int], resize_mode: ResizeMode = "stretch", max_pixels: int = MAX_PIXELS
) -> Pixels:
    """Reads an image [H, W, 3], upright and resized to (height, width).

    An image that already has this size keeps the values of the file; otherwise the result holds floats in
    [0, 1], which are not rounded. Grey images are repeated to three channels, transparency is ignored,
    palettes are converted to colours, grey images of 16 bits keep them, and colour images of 16 bits are
    reduced to 8.

    Args:
        path: The file.
        size: Height and width.
        resize_mode: `stretch` changes the aspect ratio to that of `size`; `crop` keeps it and cuts equal
            parts off both ends of the longer side; `tiles` keeps it and leaves the longer side longer.
        max_pixels: Files with more pixels are refused.

    Raises:
        InputError: If the file is missing, is not an image, is truncated or too large, or has pixels of
            another type.
    """
    pixels = read_channels(path, size, resize_mode, max_pixels)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def read_channels(path: Path, size: tuple[int, int], resize_mode: ResizeMode, max_pixels: int) -> Pixels:
    """Reads an image as :func:`read_pixels` does, but returns [H, W, 1] if its mode is grey."""
    return resize_pixels(pixel_array(open_image(path, max_pixels), str(path)), size, resize_mode)


def pixel_array(image: Image.Image, name: str) -> Pixels:
    """Returns the pixels of an image of any mode: [H, W, 1] if the mode is grey, otherwise [H, W, 3].

    `name` is the name of the image in errors.

    Raises:
        InputError: If the pixels are integers of more than 16 bits, or floats outside [0, 1].
    """
    if image.mode in ("1", "LA", "La"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "F") and not image.mode.startswith("I"):
        image = image.convert("RGB")
    if image.mode in ("L", "RGB"):
        return np.atleast_3d(np.asarray(image))
    values = np.asarray(image)[..., None]
    largest = 1 if image.mode == "F" else np.iinfo(np.uint16).max
    if not (values.min() >= 0 and values.max() <= largest):
        raise InputError(
            f"cannot read image {name}: its pixels are not integers of 8 or 16 bits, or floats in [0, 1]"
        )
    return values if image.mode == "F" else values.astype(np.uint16)


def to_uint8_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Converts an image of any mode to bytes [H, W, 3] for display."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = pixel_array(image, "for display")
        return np.repeat((values * (255 / max_value(values.dtype))).round().astype(np.uint8), 3, axis=2)
    return np.asarray(image.convert("RGB"))


def count_frames(path: Path) -> int:
    """Returns the number of frames of an image file, such as the pages of a TIFF; the first one is read."""
    with opened(path) as image:
        return getattr(image, "n_frames", 1)


def upright_size(path: Path) -> tuple[int, int]:
    """Reads width and height of the upright image from the header of its file."""
    with opened(path) as image:
        is_rotated = image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
        # Pillow applies the orientation of TIFF files itself.
        return image.size[::-1] if is_rotated and image.format != "TIFF" else image.size


def open_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes an image file, and applies its orientation.

    Raises:
        InputError: If the file cannot be read, or has more than `max_pixels` pixels.
    """
    with opened(path) as image:
        if image.width * image.height > max_pixels:
            raise InputError(
                f"{path} has {image.width} x {image.height} pixels, more than the {max_pixels} of max_pixels"
            )
        return apply_orientation(image, str(path))


def apply_orientation(image: Image.Image, name: str) -> Image.Image:
    """Decodes an image, and applies the orientation in its EXIF data; `name` is its name in errors."""
    with _named_errors(name):
        image.load()
        return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image file of any size: Pillow's own limit is lifted."""
    with _named_errors(path):
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image_file = Image.open(path, formats=FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        with image_file as image:
            yield image


@contextmanager
def _named_errors(path: str | Path) -> Iterator[None]:
    """Turns errors of a decoder into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}") from error
