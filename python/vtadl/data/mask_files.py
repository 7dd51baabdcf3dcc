"""Reading of mask files."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vtadl.data.images import MAX_PIXELS, open_image, opened, upright_size
from vtadl.data.listing import list_images
from vtadl.data.masks import BinaryMask, binarize, is_lossy, union
from vtadl.errors import InputError
from vtadl.images.pixels import ResizeMode, crop_slices, resized_size


def read_mask(
    path: Path,
    image_path: Path,
    size: tuple[int, int],
    resize_mode: ResizeMode = "stretch",
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """Reads a mask as [1, H, W] of 0 and 1, resized to (height, width) like its image, by nearest neighbour.

    Raises:
        InputError: If the file cannot be read, or its size differs from that of its image.
    """
    mask, image_size = read_mask_image(path, max_pixels), upright_size(image_path)
    if mask.size != image_size:
        raise InputError(f"mask {path} is {mask.size} pixels, but its image {image_path} is {image_size}")
    resized = _resize_nearest(mask, size, resize_mode)
    return torch.from_numpy(np.array(resized, dtype=np.float32))[None]


def read_mask_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Reads a mask as a black-and-white image of its original size."""
    return Image.fromarray(read_binary_mask(path, max_pixels).pixels)


def read_binary_mask(path: Path, max_pixels: int = MAX_PIXELS) -> BinaryMask:
    """Reads a mask file, or the union of the mask files in a folder.

    Raises:
        InputError: If a file cannot be read, or the files of a folder differ in size.
    """
    if path.is_dir():
        return union({part: read_binary_mask(part, max_pixels) for part in list_images(path)})
    pixels = open_image(path, max_pixels)
    with opened(path) as image:
        return binarize(pixels, is_lossy(path, image))


def _resize_nearest(image: Image.Image, size: tuple[int, int], resize_mode: ResizeMode) -> Image.Image:
    """Resizes an image as its pixels would be, but takes each pixel from its nearest neighbour."""
    full_size = (image.height, image.width)
    rows, columns = crop_slices(full_size, size, resize_mode)
    box = (columns.start, rows.start, columns.stop, rows.stop)
    return image.resize(resized_size(full_size, size, resize_mode)[::-1], Image.Resampling.NEAREST, box)
