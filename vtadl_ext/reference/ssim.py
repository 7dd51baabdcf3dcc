"""The SSIM operators in plain PyTorch."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl_ext._types import ReconstructionTerms
from vtadl_ext.reference._images import read_images, spatial_dims
from vtadl_ext.reference._reductions import reduce, widen


def ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float | Tensor | tuple[float, float] | None = None,
    window: str | Sequence[Any] = "gaussian",
    window_size: int | Sequence[int] = 11,
    window_sigma: float | Sequence[float] = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    padding: str = "valid",
    mask: Tensor | None = None,
    component: str = "index",
    use_sample_covariance: bool = False,
    luma: str | None = None,
    crop_border: int = 0,
    channels_last: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Reference of :func:`vtadl_ext.ssim`."""
    has_channels = x.dim() > 2
    x, y, mask, data_range = read_images(x, y, mask, data_range, luma, crop_border, channels_last)
    axes = spatial_dims(x)
    taps = axis_taps(window, window_size, window_sigma, axes)
    pixels = math.prod([len(axis) for axis in taps])
    index, has_valid = window_index(
        *(x, y, taps, data_range, k1, k2, padding, mask),
        component=component,
        covariance_norm=pixels / (pixels - 1) if use_sample_covariance else 1.0,
    )
    if reduction == "map":
        if not has_channels:
            return index.squeeze(0)
        return index.movedim(-1 - axes, -1) if channels_last else index
    dims = tuple(range(-x.dim(), 0)) if reduction == "mean" else tuple(range(-1 - axes, 0))
    total, windows = index.sum(dims), has_valid.sum(dims)
    means = (total / windows.clamp(min=1)).masked_fill(windows == 0, math.nan)
    return means.sum() if reduction == "sum" else means


def ms_ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float | Tensor | tuple[float, float] | None = None,
    window: str | Sequence[Any] = "gaussian",
    window_size: int | Sequence[int] = 11,
    window_sigma: float | Sequence[float] = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    weights: Iterable[float] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333),
    odd_sides: str = "replicate",
    luma: str | None = None,
    crop_border: int = 0,
    channels_last: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Reference of :func:`vtadl_ext.ms_ssim`."""
    x, y, _, data_range = read_images(x, y, None, data_range, luma, crop_border, channels_last)
    taps = axis_taps(window, window_size, window_sigma, axes=2)
    exponents = list(map(float, weights))
    x, y = widen(x), widen(y)
    product = torch.ones_like(x[..., 0, 0])
    for scale, exponent in enumerate(exponents):
        if scale > 0:
            x, y = _halve(x, odd_sides), _halve(y, odd_sides)
        component = "index" if scale == len(exponents) - 1 else "contrast_structure"
        index, _ = window_index(x, y, taps, data_range, k1, k2, component=component)
        product = product * _power(index.mean((-2, -1)), exponent)
    return reduce(product.mean(-1), reduction)


def _halve(image: Tensor, odd_sides: str) -> Tensor:
    """Means of 2 x 2 pixels. Where a side is odd, its last pixel is its own neighbour, or gets none."""
    for axis in (-2, -1):
        if image.shape[axis] % 2 and odd_sides == "replicate":
            image = torch.cat((image, image.narrow(axis, -1, 1)), axis)
        elif image.shape[axis] % 2 and odd_sides == "zeros":  # before the first pixel, as in pytorch-msssim
            image = torch.cat((torch.zeros_like(image.narrow(axis, 0, 1)), image), axis)
    return F.avg_pool2d(image, 2)


def reconstruction_loss(
    x: Tensor,
    y: Tensor,
    *,
    mse: float = 1.0,
    l1: float = 0.0,
    ssim: float = 1.0,
    data_range: float | Tensor | tuple[float, float] | None = None,
    window: str | Sequence[Any] = "gaussian",
    window_size: int | Sequence[int] = 11,
    window_sigma: float | Sequence[float] = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    return_terms: bool = False,
) -> Tensor | tuple[Tensor, ReconstructionTerms]:
    """Reference of :func:`vtadl_ext.reconstruction_loss`."""
    x, y, _, data_range = read_images(x, y, None, data_range, None, 0, channels_last=False)
    taps = axis_taps(window, window_size, window_sigma, axes=2)
    difference = widen(x) - widen(y)
    squared, absolute = difference.square().mean(), difference.abs().mean()
    index = window_index(x, y, taps, data_range, k1, k2)[0].mean()
    weighted = [(mse, squared), (l1, absolute), (ssim, 1 - index)]
    loss = sum((weight * term for weight, term in weighted if weight != 0), index.new_zeros(()))
    terms = ReconstructionTerms(squared.detach(), absolute.detach(), index.detach())
    return (loss, terms) if return_terms else loss


def axis_taps(window: Any, size: Any, sigma: Any, axes: int) -> list[list[float]]:
    """The taps along each axis: of a named window, or those given for all axes or for each."""
    if isinstance(window, str):
        sizes, sigmas = (value if isinstance(value, Sequence) else [value] * axes for value in (size, sigma))
        return [window_taps(window, *pair) for pair in zip(sizes, sigmas, strict=True)]
    taps = torch.as_tensor(window, dtype=torch.float64) if not isinstance(window[0], Sequence) else None
    each = window if taps is None else taps.expand(axes, -1) if taps.dim() == 1 else taps
    rows = [list(map(float, row)) for row in each]
    return [[tap / math.fsum(row) for tap in row] for row in rows]


def window_taps(window: str, size: int, sigma: float) -> list[float]:
    """The taps of a one-dimensional window, computed in double precision, with sum 1."""
    centre = (size - 1) / 2
    distances = [(i - centre) / sigma for i in range(size)]
    # Not distance**2: torch.compile, where sigma varies, cannot take powers of negative numbers.
    taps = [1.0 if window == "uniform" else math.exp(-0.5 * distance * distance) for distance in distances]
    return [tap / math.fsum(taps) for tap in taps]


def pad_image(image: Tensor, sizes: Sequence[int], padding: str) -> Tensor:
    """The image with the border that `padding` asks for, for a window of these sizes.

    A border of mirrored pixels or zeros is in float32.
    """
    if padding == "valid":
        return image
    image = widen(image)  # the gradients of a pixel and of its copies add up
    widths = [size // 2 for size in sizes]
    if padding == "same":
        return F.pad(image, [width for width in reversed(widths) for _ in range(2)])
    for dim, width in enumerate(widths, -len(widths)):
        image = _mirror(image, width, dim, skipped={"reflect": 1, "symmetric": 0}[padding])
    return image


def _mirror(image: Tensor, width: int, dim: int, skipped: int) -> Tensor:
    # F.pad would add the gradients in a varying order on a GPU.
    ends = (slice(skipped, width + skipped), slice(-width - skipped, -skipped or None))
    image = image.movedim(dim, -1)
    before, after = (image[..., end].flip(-1) for end in ends)
    return torch.cat((before, image, after), -1).movedim(-1, dim)


# The smallest sum of the taps over the valid pixels of a window. Below it a window counts as empty. The
# kernels have the same limit: csrc/ssim/math.h.
_MIN_WEIGHT = 1e-12


def window_index(
    x: Tensor,
    y: Tensor,
    taps: Sequence[Sequence[float]],
    data_range: float,
    k1: float,
    k2: float,
    padding: str = "valid",
    mask: Tensor | None = None,
    *,
    component: str = "index",
    covariance_norm: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The component of each window, and whether it has valid pixels. Without any it is 0."""
    dims, size = len(taps), [len(axis) for axis in taps]
    # The zeros that surround a mask under "same" are not valid.
    valid = None if mask is None else pad_image(mask.expand(x.shape).float(), size, padding) > 0
    x, y = (pad_image(widen(image) / data_range, size, padding) for image in (x, y))
    if valid is None:
        valid = torch.ones_like(x, dtype=torch.bool)
    (x, pivot_x), (y, pivot_y) = (_centred(image, valid, dims) for image in (x, y))
    statistics = torch.stack([valid.to(x.dtype), x, y, x * x + y * y, x * y])
    weight, *sums = _blur(statistics, taps).unbind()
    has_valid = weight >= _MIN_WEIGHT
    dx, dy, squares, product = (total / weight.masked_fill(~has_valid, 1) for total in sums)

    c1, c2 = k1 * k1, k2 * k2
    index = torch.ones_like(dx)
    if component != "luminance":
        variances = covariance_norm * (squares - dx * dx - dy * dy).clamp(min=0)
        index = (2 * covariance_norm * (product - dx * dy) + c2) / (variances + c2)
    if component != "contrast_structure":
        mean_x, mean_y = dx + pivot_x, dy + pivot_y
        index = index * (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return index.masked_fill(~has_valid, 0), has_valid


def _centred(image: Tensor, valid: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Each plane or volume minus the mean of its valid pixels, lest variances cancel, and that mean."""
    axes = tuple(range(-dims, 0))
    image = image.masked_fill(~valid, 0)
    mean = image.detach().sum(axes, keepdim=True) / valid.sum(axes, keepdim=True).clamp(min=1)
    mean = mean.nan_to_num(0, 0, 0)  # NaN in a pixel stays in the windows that hold it
    return (image - mean).masked_fill(~valid, 0), mean


def _blur(images: Tensor, taps: Sequence[Sequence[float]]) -> Tensor:
    """Weighted sums under the window. PyTorch's convolutions might round, in TF32 or under autocast."""
    for dim, of_axis in enumerate(taps, -len(taps)):
        size = images.shape[dim] - len(of_axis) + 1
        total = of_axis[0] * images.narrow(dim, 0, size)
        for i, tap in enumerate(of_axis[1:], 1):
            total = torch.add(total, images.narrow(dim, i, size), alpha=tap)
        images = total
    return images


# Means that are smaller than this are rounding errors, or negative.
_MIN_MEAN = 1e-7


def _power(mean: Tensor, exponent: float) -> Tensor:
    """The power. It is 0, with gradient 0, where the slope of fractional powers would be infinite."""
    is_small = mean < _MIN_MEAN
    return mean.masked_fill(is_small, 1).pow(exponent).masked_fill(is_small, 0)
