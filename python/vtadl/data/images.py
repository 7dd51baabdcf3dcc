"""Reading image files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from vtadl.data.listing import DECODER_ERRORS, FORMATS, list_images
from vtadl.data.masks import Marks, is_lossy, join_marks, marks_of
from vtadl.errors import InputError
from vtadl.images.pixels import Pixels, ResizeMode, resize_pixels, resized_size, seen, white_of
from vtadl.images.pixels import to_tensor as to_tensor

ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 exchange height and width
MAX_PIXELS = 500_000_000  # of a file, unless more are asked for: 2 GB when it is decoded in colour
_pillow_limit = Lock()


def read_pixels(
    path: Path, size: tuple[int, int], resize_mode: ResizeMode = "stretch", max_pixels: int = MAX_PIXELS
) -> Pixels:
    """An image [H, W, 3], upright, resized to (height, width) without rounding.

    What has that size already holds the numbers of the file, all else floats in [0, 1]. Grey is repeated,
    transparency is ignored, palettes become colours, 16 bits of grey stay 16 bits, and 16 bits of colour
    become 8.

    Args:
        path: The file.
        size: Height and width.
        resize_mode: `stretch` changes the ratio of the sides to that of `size`; `crop` keeps it and cuts
            equal parts off at both ends of the side that is too long; `tiles` keeps it and leaves that side
            longer.
        max_pixels: A file with more is refused.

    Raises:
        InputError: If the file is missing, is no image, is cut short or too large, or has pixels of another
            kind.
    """
    pixels = read_channels(path, size, resize_mode, max_pixels)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def read_channels(path: Path, size: tuple[int, int], resize_mode: ResizeMode, max_pixels: int) -> Pixels:
    """The same, but [H, W, 1] if it is grey."""
    return resize_pixels(numbers_of(open_image(path, max_pixels), str(path)), size, resize_mode)


def numbers_of(image: Image.Image, name: str) -> Pixels:
    """The pixels of an image of any mode, [H, W, 1] if it is grey and [H, W, 3] if not; `name` is for errors.

    Raises:
        InputError: If they are whole numbers of more than 16 bits, or floats that are not in [0, 1].
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
            f"cannot read image {name}: its pixels are not whole numbers of 8 or 16 bits, or floats in [0, 1]"
        )
    return values if image.mode == "F" else values.astype(np.uint16)


def eight_bit_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """An image of any mode as bytes [H, W, 3], to look at."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = numbers_of(image, "to look at")
        return np.repeat((values * (255 / white_of(values.dtype))).round().astype(np.uint8), 3, axis=2)
    return np.asarray(image.convert("RGB"))


def read_mask(
    path: Path,
    image_path: Path,
    size: tuple[int, int],
    resize_mode: ResizeMode = "stretch",
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """A mask as [1, H, W] of 0 and 1, resized by nearest neighbour.

    Raises:
        InputError: If the file cannot be read, or its size is not that of its image.
    """
    marked, image_size = read_marked(path, max_pixels), upright_size(image_path)
    if marked.size != image_size:
        raise InputError(f"mask {path} is {marked.size} pixels, but its image {image_path} is {image_size}")
    resized = _resize_nearest(marked, size, resize_mode)
    return torch.from_numpy(np.array(resized, dtype=np.float32))[None]


def read_marked(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A mask, black and white."""
    return Image.fromarray(read_marks(path, max_pixels).pixels)


def read_marks(path: Path, max_pixels: int = MAX_PIXELS) -> Marks:
    """What a mask file marks, or all those of a folder together.

    Raises:
        InputError: If a file cannot be read, or those of a folder differ in size.
    """
    if path.is_dir():
        return join_marks({part: read_marks(part, max_pixels) for part in list_images(path)})
    pixels = open_image(path, max_pixels)
    with _opened(path) as image:
        return marks_of(pixels, is_lossy(path, image))


def count_frames(path: Path) -> int:
    """How many pictures an image file holds, such as the pages of a TIFF; the first is read."""
    with _opened(path) as image:
        return getattr(image, "n_frames", 1)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is to be seen, from the head of its file."""
    with _opened(path) as image:
        turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
        # Pillow turns TIFF itself.
        return image.size[::-1] if turned and image.format != "TIFF" else image.size


def open_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image, decoded and upright.

    Raises:
        InputError: If it cannot be read, or has more pixels than that.
    """
    with _opened(path) as image:
        if image.width * image.height > max_pixels:
            raise InputError(
                f"{path} has {image.width} x {image.height} pixels, more than the {max_pixels} of max_pixels"
            )
        return upright(image, str(path))


def upright(image: Image.Image, name: str) -> Image.Image:
    """An image, decoded and turned as its EXIF says."""
    with _naming(name):
        image.load()
        return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A file of any size: Pillow's own limit is for files from the web."""
    with _naming(path):
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                opened = Image.open(path, formats=FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        with opened as image:
            yield image


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Names the file in whatever reading it raises."""
    try:
        yield
    except InputError:
        raise
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}") from error


def _resize_nearest(image: Image.Image, size: tuple[int, int], resize_mode: ResizeMode) -> Image.Image:
    """An image fitted as its pixels would be, but each taken from the nearest one."""
    whole = (image.height, image.width)
    rows, columns = seen(whole, size, resize_mode)
    box = (columns.start, rows.start, columns.stop, rows.stop)
    return image.resize(resized_size(whole, size, resize_mode)[::-1], Image.Resampling.NEAREST, box)
