"""Finding and reading image files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from vtadl.errors import InputError
from vtadl.tiles import covering_size

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
Fit = Literal["stretch", "crop", "tiles"]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]  # [H, W, 3]
ORIENTATION = 0x0112  # the EXIF tag; 5 and above exchange height and width


def list_images(folder: Path, pattern: str = "*") -> list[Path]:
    """The images in a folder whose paths match a glob, sorted; none if there is no such folder."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def to_tensor(pixels: Pixels) -> Tensor:
    """Whole numbers [H, W, 3] as RGB [3, H, W] in [0, 1]."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    planes /= np.iinfo(pixels.dtype).max
    return torch.from_numpy(planes)


def read_pixels(path: Path, size: tuple[int, int], fit: Fit = "stretch") -> Pixels:
    """An image as whole numbers [H, W, 3], upright, resized to (height, width).

    Grey is repeated, transparency is ignored, palettes become colours, 16 bits of grey stay 16 bits, and 16
    bits of colour become 8.

    Args:
        path: The file.
        size: Height and width.
        fit: `stretch` changes the ratio of the sides to that of `size`; `crop` keeps it and cuts equal parts
            off at both ends of the side that is too long; `tiles` keeps it and leaves that side longer.

    Raises:
        InputError: If the file is missing, is no image, is cut short, or has pixels of another kind.
    """
    return resized_pixels(open_image(path), size, fit, str(path))


def resized_pixels(image: Image.Image, size: tuple[int, int], fit: Fit, name: str) -> Pixels:
    """The same of an image that is already open; `name` is what an error calls it."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(_sixteen_bit_grey(image, name), dtype=np.float32)
        resized = np.asarray(_resize(Image.fromarray(values), size, fit, Image.Resampling.BILINEAR))
        return np.repeat(resized.round().astype(np.uint16)[..., None], 3, axis=2)
    return np.asarray(_resize(image.convert("RGB"), size, fit, Image.Resampling.BILINEAR))


def eight_bit_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """An image of any mode as bytes [H, W, 3], to look at."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path, image_path: Path, size: tuple[int, int], fit: Fit = "stretch") -> Tensor:
    """A mask as [1, H, W] of 0 and 1 (any value above 0), resized by nearest neighbour.

    Raises:
        InputError: If the file cannot be read, or its size is not that of its image.
    """
    marked, image_size = read_marked(path), upright_size(image_path)
    if marked.size != image_size:
        raise InputError(f"mask {path} is {marked.size} pixels, but its image {image_path} is {image_size}")
    resized = _resize(marked, size, fit, Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized, dtype=np.float32))[None]


def read_marked(path: Path) -> Image.Image:
    """A mask file, black and white."""
    mask = open_image(path)
    values = np.asarray(mask if mask.mode.startswith("I") else mask.convert("L"))
    return Image.fromarray(values > 0)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is to be seen, from the head of its file."""
    with _naming(path), Image.open(path) as image:
        turned = image.getexif().get(ORIENTATION, 1) >= 5
        return image.size[::-1] if turned else image.size


def open_image(path: Path) -> Image.Image:
    """An image, decoded and upright."""
    with _naming(path), Image.open(path) as image:
        return ImageOps.exif_transpose(image)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Names the file in whatever reading it raises."""
    try:
        yield
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}") from error


def _resize(image: Image.Image, size: tuple[int, int], fit: Fit, filter_: Image.Resampling) -> Image.Image:
    if fit == "crop":
        return ImageOps.fit(image, size[::-1], filter_)
    return image.resize(fitted_size((image.height, image.width), size, fit)[::-1], filter_)


def fitted_size(whole: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """The height and width that an image gets, whose own are `whole`, for a network of `size`."""
    return covering_size(whole, size) if fit == "tiles" else size


def _sixteen_bit_grey(image: Image.Image, name: str) -> NDArray[Any]:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise InputError(f"cannot read image {name}: its pixels are not whole numbers of 8 or 16 bits")
    return values
