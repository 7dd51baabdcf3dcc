"""Reading of mask files."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vtadl.data.images import MAX_PIXELS, open_image, opened, upright_size
from vtadl.data.listing import list_images
from vtadl.data.masks import BinaryMask, binarize, is_lossy, union
from vtadl.errors import InputError
from vtadl.images.pixels import ResizeMode, crop_slices, resized_size
from vtadl.images.tiles import Size

MaskSize = Size | Literal["image", "file"]


def read_mask(
    path: Path | None,
    image_path: Path,
    size: Size,
    resize_mode: ResizeMode = "stretch",
    max_pixels: int = MAX_PIXELS,
    mask_size: MaskSize = "image",
) -> Tensor:
    """Reads the mask of an image, without what `crop` cuts off the image: [1, H, W], 0 and 1, or bools.

    Args:
        path: The file, or a folder of files whose union is meant; without one no pixel is marked.
        image_path: The image.
        size: Height and width to which the image is resized.
        resize_mode: How the image gets that size.
        max_pixels: Files with more pixels are refused.
        mask_size: Height and width to which the mask is resized in the same way, by nearest neighbour; by
            default those of the image. With `file`, the mask is not resized, and holds bools.

    Raises:
        InputError: If the file cannot be read, or its size differs from that of its image.
    """
    width, height = upright_size(image_path)
    rows, columns = crop_slices((height, width), size, resize_mode)
    if mask_size == "file":
        target, kind = (rows.stop - rows.start, columns.stop - columns.start), torch.bool
    else:
        wanted = size if mask_size == "image" else mask_size
        target, kind = resized_size((height, width), wanted, resize_mode), torch.float32
    if path is None:
        return torch.zeros(1, 1, 1, dtype=kind).expand(1, *target)
    mask = read_mask_image(path, max_pixels)
    if mask.size != (width, height):
        raise InputError(f"mask {path} is {mask.size} pixels, but its image {image_path} is {width, height}")
    box = (columns.start, rows.start, columns.stop, rows.stop)
    resized = np.array(mask.resize(target[::-1], Image.Resampling.NEAREST, box))
    return torch.from_numpy(resized)[None].to(kind)


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
