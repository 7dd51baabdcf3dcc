"""The one path from pixels to what the network sees, for files, arrays, tensors and exported programs."""

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vtadl.errors import InputError
from vtadl.images.tiles import Size, covering_size

ResizeMode = Literal["stretch", "crop", "tiles"]
Pixels = NDArray[Any]  # [H, W, C]
_DARK = 1 / 128  # of white; it is more than bytes reach in 16 bits, or 16 bits in 32
_SERIAL = 2**15  # numbers that PyTorch resizes in one thread; threads that read files are busy without more


def resize_pixels(values: Pixels, size: Size, resize_mode: ResizeMode) -> Pixels:
    """Numbers [H, W, C] of any type, fitted to `size` (height, width).

    They are the same numbers if the image has that size already, and else floats in [0, 1], not rounded.
    Strips of rows are resized one after the other, first in their width, so that no more than one of them is
    kept as floats; the result has the bits of :func:`resize`.
    """
    whole = (values.shape[0], values.shape[1])
    target = resized_size(whole, size, resize_mode)
    if target == whole:
        return values
    rows, columns = seen(whole, size, resize_mode)
    step = max(1, _SERIAL // (target[1] * values.shape[2]))
    starts = range(rows.start, rows.stop, step)
    strips = (_planes(values[start : min(start + step, rows.stop), columns]) for start in starts)
    narrowed = torch.cat([resize(strip[None], (strip.shape[-2], target[1])) for strip in strips], dim=-2)
    planes = (resize(narrowed, target) / white_of(values.dtype)).clamp(max=1)  # of rounding
    return planes[0].movedim(0, -1).numpy()


def to_tensor(pixels: Pixels) -> Tensor:
    """Numbers [H, W, C] of any type as RGB [3, H, W] in [0, 1]; channels of grey share their memory."""
    return (_planes(pixels) / white_of(pixels.dtype)).expand(3, -1, -1)


def resize(images: Tensor, size: Size) -> Tensor:
    """Images [B, C, H, W] in another size, bilinearly and without aliasing."""
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def seen(whole: Size, size: Size, resize_mode: ResizeMode) -> tuple[slice, slice]:
    """Rows and columns of an image that are seen: all, or to crop the middle with the ratio of `size`."""
    height, width = whole
    if resize_mode == "crop":
        height, width = (
            torch.sym_min(height, (2 * width * size[0] + size[1]) // (2 * size[1])),
            torch.sym_min(width, (2 * height * size[1] + size[0]) // (2 * size[0])),
        )
        height, width = torch.sym_max(height, 1), torch.sym_max(width, 1)
    top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
    return slice(top, top + height), slice(left, left + width)


def resized_size(whole: Size, size: Size, resize_mode: ResizeMode) -> Size:
    """The height and width that an image gets, whose own are `whole`, for a network of `size`."""
    return covering_size(whole, size) if resize_mode == "tiles" else size


def lay_over(maps: Tensor, size: tuple[int, int], resize_mode: ResizeMode, outside: float) -> Tensor:
    """Maps [B, 1, h, w] in the size of their images; `outside` is for what the network did not see."""
    rows, columns = seen(size, (maps.shape[-2], maps.shape[-1]), resize_mode)
    part = F.interpolate(maps, (rows.stop - rows.start, columns.stop - columns.start), mode="bilinear")
    border = (columns.start, size[1] - columns.stop, rows.start, size[0] - rows.stop)
    return part if resize_mode != "crop" else F.pad(part, border, value=outside)


def white_of(dtype: np.dtype[Any]) -> float:
    """The number that stands for white: 1 among bools and floats, the largest of a type of integers."""
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def check_numbers(values: Pixels, kind: str) -> None:
    """Sees that numbers, of a `kind` that the error names, have a meaning as a picture.

    Raises:
        InputError: If some are below 0, floats are above 1, or signed or wide integers are so small that
            another white must be meant.
    """
    values = values[..., :3]  # alpha means nothing
    dtype = values.dtype
    if dtype.kind not in "biuf":
        raise InputError(f"an image must hold integers, or floats in [0, 1], but this holds {kind}")
    if dtype.kind == "b" or (dtype.kind == "u" and dtype.itemsize <= 2):
        return
    low, high, white = values.min(), values.max(), white_of(dtype)
    if dtype.kind == "f" and not (low >= 0 and high <= 1):
        raise InputError(f"an image of floats must lie in [0, 1], but this goes from {low:g} to {high:g}")
    if low < 0:
        raise InputError(f"an image must not be negative, but this one of {kind} goes down to {low}")
    if dtype.kind != "f" and high < _DARK * white:
        raise InputError(
            f"white is {np.iinfo(dtype).max} in an image of {kind}, but the largest number of this one is "
            f"{high}: convert it to the type that it fills, such as uint8 or uint16"
        )


def _planes(values: Pixels) -> Tensor:
    """A copy of numbers [H, W, C] of any type and byte order as floats [C, H, W]."""
    return torch.from_numpy(np.array(values.transpose(2, 0, 1), dtype=np.float32, order="C"))
