"""Finding and reading image files."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vtadl.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """The images in a folder, sorted by path; none if there is no such folder."""
    paths = folder.rglob("*") if recursive else folder.glob("*")
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def read_image(path: Path, size: tuple[int, int]) -> Tensor:
    """An image as RGB [3, H, W] in [0, 1], resized to (height, width); grey is repeated.

    Raises:
        InputError: If the file is missing, is no image, or is cut short.
    """
    return image_tensor(open_image(path), size)


def open_image(path: Path) -> Image.Image:
    """An image as RGB in the size of its file; errors as of read_image."""
    return as_rgb(_open(path))


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB; grey is repeated."""
    return _as_eight_bit(image).convert("RGB")


def image_tensor(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """An RGB image as [3, H, W] in [0, 1], resized to (height, width)."""
    pixels = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR), dtype=np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1).contiguous()


def read_mask(path: Path, image_path: Path, size: tuple[int, int]) -> Tensor:
    """A mask as [1, H, W] of 0 and 1 (any value above 0), resized by nearest neighbour.

    Raises:
        InputError: If the file cannot be read, or its size is not that of its image.
    """
    mask, image_size = _open(path), _open(image_path).size
    if mask.size != image_size:
        raise InputError(f"mask {path} is {mask.size} pixels, but its image {image_path} is {image_size}")
    marked = Image.fromarray(np.asarray(_as_eight_bit(mask).convert("L")) > 0)
    marked = marked.resize(size[::-1], Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(marked, dtype=np.float32))[None]


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}") from error
    return image


def _as_eight_bit(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow would clip 16 bits at 255
