"""From the images of users to those that SSIM compares: ``[N, C, H, W]``, or ``[N, C, D, H, W]``."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vtadl_ext._autograd import is_traced
from vtadl_ext._binary import accumulate_dtype
from vtadl_ext._checks import check_flag, check_mask, check_number, check_option, checked_images, items_of

IMAGES = {2: "[H, W]", 3: "[C, H, W]", 4: "[N, C, H, W]"}
IMAGES_AND_VOLUMES = {**IMAGES, 5: "[N, C, D, H, W]"}

# The weights of red, green and blue, and an offset in units of the data range.
_LUMA = {
    "bt601": (0.299, 0.587, 0.114, 0.0),
    "bt709": (0.2126, 0.7152, 0.0722, 0.0),
    "matlab": (65.481 / 255, 128.553 / 255, 24.966 / 255, 16 / 255),
}
# Integers that float32 represents; others become float64. The kernels read bytes as they are.
_SMALL_INTEGERS = (torch.uint8, torch.int8, torch.uint16, torch.int16)


class ImageOptions(NamedTuple):
    """How the images of users are read."""

    luma: str | None = None
    crop_border: int = 0
    channels_last: bool = False

    def check(self) -> None:
        if self.luma is not None:
            check_option("luma", self.luma, (*_LUMA, None))  # type: ignore[arg-type]
        check_number("crop_border", self.crop_border, zero_allowed=True)
        if not hasattr(self.crop_border, "__index__"):
            raise TypeError(f"crop_border must be an integer, got {self.crop_border!r}")
        check_flag("channels_last", self.channels_last)


class Pair(NamedTuple):
    """Two images as SSIM compares them, and how the caller's lay."""

    x: Tensor
    y: Tensor
    mask: Tensor | None
    data_range: float
    dims: int
    channels_last: bool

    @property
    def axes(self) -> int:
        return self.x.dim() - 2

    def map_of_caller(self, index: Tensor) -> Tensor:
        """A map laid out as the caller's images."""
        if self.dims == 2:
            return index[0, 0]
        if self.channels_last:
            index = index.movedim(1, -1)
        return index.squeeze(0) if self.dims == 3 else index

    def means_of_caller(self, means: Tensor) -> Tensor:
        """``[N]``, or a scalar for images that are no batch."""
        return means if self.dims > 3 else means.squeeze(0)


def prepare(
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    data_range: Any,
    options: ImageOptions,
    shapes: Mapping[int, str] = IMAGES,
) -> Pair:
    """The images as SSIM compares them, once they are checked."""
    x, y = checked_images(x, y)
    options.check()
    _check_shapes(x, y, shapes, options.channels_last)
    check_mask(mask, x)
    span, limits = _checked_range(data_range, x.dtype)
    if mask is not None:
        mask = _canonical(_mask_of_pixels(mask, x), options.channels_last)
    dims = x.dim()
    pair = [_canonical(image, options.channels_last) for image in (x, y)]
    if options.crop_border:
        pair = [_cropped(image, int(options.crop_border)) for image in pair]
        mask = None if mask is None else _cropped(mask, int(options.crop_border))
    if limits is not None:
        pair = [_widened(image).clamp(*limits) for image in pair]
    if options.luma is not None:
        pair = [_luma(image, options.luma, span) for image in pair]
        mask = None if mask is None else mask.all(1, keepdim=True)
    x, y = (image if _is_read(image) else _widened(image) for image in pair)
    return Pair(x, y, mask, span, dims, options.channels_last)


def _check_shapes(x: Tensor, y: Tensor, shapes: Mapping[int, str], channels_last: bool) -> None:
    if x.dim() not in shapes:
        names = [_channels_last(shape) if channels_last else shape for shape in shapes.values()]
        wanted = " or ".join(sorted(names, key=len, reverse=True))
        raise ValueError(f"x must have shape {wanted}, got {list(x.shape)}")
    if x.shape != y.shape:
        raise ValueError(f"y must have the shape of x, {list(x.shape)}, got {list(y.shape)}")


def _channels_last(shape: str) -> str:
    return shape.replace("C, ", "").replace("]", ", C]") if "C" in shape else shape


def _mask_of_pixels(mask: Tensor, x: Tensor) -> Tensor:
    """The mask in the shape of x, which a trace must not remember."""
    return mask | torch.zeros_like(x, dtype=torch.bool) if is_traced() else mask.expand(x.shape)


def _canonical(image: Tensor, channels_last: bool) -> Tensor:
    if image.dim() == 2:
        return image.unsqueeze(0).unsqueeze(0)
    if channels_last:
        image = image.movedim(-1, 0 if image.dim() == 3 else 1)
    return image.unsqueeze(0) if image.dim() == 3 else image


def _cropped(image: Tensor, border: int) -> Tensor:
    sizes = image.shape[2:]
    if min(sizes) <= 2 * border:
        got = " x ".join(map(str, sizes))
        raise ValueError(f"crop_border must leave pixels of the images, got {border} for {got}")
    inside = slice(border, -border)
    image = image[:, :, inside, inside]
    return image[..., inside] if len(sizes) == 3 else image


def _luma(image: Tensor, name: str, data_range: float) -> Tensor:
    if image.shape[1] != 3:
        raise ValueError(f"x must have 3 channels for luma = {name!r}, got {image.shape[1]}")
    red, green, blue, offset = _LUMA[name]
    image = _widened(image)
    luma = red * image[:, :1] + green * image[:, 1:2] + blue * image[:, 2:]
    return luma + offset * data_range


def _is_read(image: Tensor) -> bool:
    """Whether the kernels read pixels of this type."""
    return image.is_floating_point() or image.dtype == torch.uint8


def _widened(image: Tensor) -> Tensor:
    """The image in at least float32, in which its integers are exact unless they exceed 2**53."""
    if image.is_floating_point():
        return image.to(accumulate_dtype(image.dtype))
    return image.to(torch.float32 if image.dtype in _SMALL_INTEGERS else torch.float64)


def _checked_range(value: Any, dtype: torch.dtype) -> tuple[float, tuple[float, float] | None]:
    """The data range as a number, and the limits of the pixels where they are to be clamped."""
    if value is None:
        if dtype.is_floating_point:
            return 1.0, None
        limits = torch.iinfo(dtype)
        return float(limits.max - limits.min), None
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"data_range must hold one number, got shape {list(value.shape)}")
        value = value.item()
    items = None if isinstance(value, str) else items_of(value)
    if items is None:
        check_number("data_range", value)
        return float(value), None
    if len(items) != 2:
        raise ValueError(f"data_range must be a number or a pair (low, high), got {value!r}")
    for i, item in enumerate(items):
        if isinstance(item, bool) or not isinstance(item, Real):
            raise TypeError(f"data_range[{i}] must be a number, got {item!r}")
    low, high = items
    check_number("data_range[1] - data_range[0]", high - low)
    return float(high - low), (float(low), float(high))
