"""Conversion of pixels to the network's input, the same for files, arrays, tensors and exported programs."""

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
# The fraction of white that the largest value of an image must reach. Values of 8 bits in an integer of 16
# bits, or of 16 bits in one of 32, are below it.
_MIN_LARGEST_VALUE = 1 / 128
# PyTorch resizes so many values in one thread. Files are read by several threads, which need no others.
_SINGLE_THREAD_SIZE = 2**15


def resize_pixels(values: Pixels, size: Size, resize_mode: ResizeMode) -> Pixels:
    """Resizes pixels [H, W, C] of any type to `size` (height, width).

    With `stretch` the result has that size. With `crop` both ends of the longer side are cut off first. With
    `tiles` one side has that size and the other is as long as the aspect ratio requires.

    An image that already has the resulting size is returned unchanged; otherwise the result holds floats in
    [0, 1], which are not rounded. The width is resized in strips of rows, so that only one strip at a time is
    held as floats; the result is equal to that of :func:`resize`.
    """
    full_size = (values.shape[0], values.shape[1])
    target = resized_size(full_size, size, resize_mode)
    if target == full_size:
        return values
    rows, columns = crop_slices(full_size, size, resize_mode)
    step = max(1, _SINGLE_THREAD_SIZE // (target[1] * values.shape[2]))
    starts = range(rows.start, rows.stop, step)
    strips = (_planes(values[start : min(start + step, rows.stop), columns]) for start in starts)
    narrowed = torch.cat([resize(strip[None], (strip.shape[-2], target[1])) for strip in strips], dim=-2)
    planes = (resize(narrowed, target) / max_value(values.dtype)).clamp(max=1)  # rounding may exceed 1
    return planes[0].movedim(0, -1).numpy()


def to_tensor(pixels: Pixels) -> Tensor:
    """Converts pixels [H, W, C] of any type to RGB [3, H, W] in [0, 1]; the channels of grey share memory."""
    return (_planes(pixels) / max_value(pixels.dtype)).expand(3, -1, -1)


def resize(images: Tensor, size: Size) -> Tensor:
    """Resizes images [B, C, H, W] by bilinear interpolation with antialiasing."""
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def crop_slices(full_size: Size, size: Size, resize_mode: ResizeMode) -> tuple[slice, slice]:
    """Returns the rows and columns of an image that are used.

    With `crop` they are the centre with the aspect ratio of `size`; with the other modes they are all.
    """
    height, width = full_size
    if resize_mode == "crop":
        height, width = (
            torch.sym_min(height, (2 * width * size[0] + size[1]) // (2 * size[1])),
            torch.sym_min(width, (2 * height * size[1] + size[0]) // (2 * size[0])),
        )
        height, width = torch.sym_max(height, 1), torch.sym_max(width, 1)
    top, left = (full_size[0] - height) // 2, (full_size[1] - width) // 2
    return slice(top, top + height), slice(left, left + width)


def resized_size(full_size: Size, size: Size, resize_mode: ResizeMode) -> Size:
    """Returns the height and width of an image after resizing for a network of `size`."""
    return covering_size(full_size, size) if resize_mode == "tiles" else size


def restore_map_size(maps: Tensor, size: Size, resize_mode: ResizeMode, fill_value: float) -> Tensor:
    """Resizes anomaly maps [B, 1, h, w] to the original size of their images.

    Pixels that were cropped off get `fill_value`.
    """
    rows, columns = crop_slices(size, (maps.shape[-2], maps.shape[-1]), resize_mode)
    resized = F.interpolate(maps, (rows.stop - rows.start, columns.stop - columns.start), mode="bilinear")
    border = (columns.start, size[1] - columns.stop, rows.start, size[0] - rows.stop)
    return resized if resize_mode != "crop" else F.pad(resized, border, value=fill_value)


def max_value(dtype: np.dtype[Any]) -> float:
    """Returns the value of white: 1 for bools and floats, and the largest value of an integer type."""
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def check_pixel_values(values: Pixels, dtype_name: str) -> None:
    """Checks that values [H, W, C] are those of an image; `dtype_name` names their type in errors.

    Raises:
        InputError: If a value is negative, a float is above 1, or all values of a signed or wide integer type
            are so small that white must have another value.
    """
    values = values[..., :3]  # alpha is ignored
    dtype = values.dtype
    if dtype.kind not in "biuf":
        raise InputError(f"an image must hold integers, or floats in [0, 1], but this holds {dtype_name}")
    if dtype.kind == "b" or (dtype.kind == "u" and dtype.itemsize <= 2):
        return
    low, high, white = values.min(), values.max(), max_value(dtype)
    if dtype.kind == "f" and not (low >= 0 and high <= 1):
        raise InputError(f"an image of floats must lie in [0, 1], but this goes from {low:g} to {high:g}")
    if low < 0:
        raise InputError(f"an image must not be negative, but this one of {dtype_name} goes down to {low}")
    if dtype.kind != "f" and high < _MIN_LARGEST_VALUE * white:
        raise InputError(
            f"white is {np.iinfo(dtype).max} in an image of {dtype_name}, but the largest value of this one "
            f"is {high}: convert it to a type whose range it uses, such as uint8 or uint16"
        )


def _planes(values: Pixels) -> Tensor:
    """Copies pixels [H, W, C] of any type and byte order to floats [C, H, W]."""
    return torch.from_numpy(np.array(values.transpose(2, 0, 1), dtype=np.float32, order="C"))
