"""The SSIM operators in plain PyTorch."""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl_ext._types import ReconstructionTerms
from vtadl_ext.reference._reductions import widen


def ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float = 1.0,
    window: str = "gaussian",
    window_size: int = 11,
    window_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    padding: str = "valid",
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Reference of :func:`vtadl_ext.ssim`."""
    taps = window_taps(window, window_size, window_sigma)
    index, has_valid = window_index(x, y, taps, data_range, k1, k2, padding, mask)
    if reduction == "map":
        return index
    dims = tuple(range(-1 - _spatial_dims(x), 0)) if reduction == "none" else tuple(range(-x.dim(), 0))
    total, windows = index.sum(dims), has_valid.sum(dims)
    return (total / windows.clamp(min=1)).masked_fill(windows == 0, math.nan)


def ms_ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float = 1.0,
    window: str = "gaussian",
    window_size: int = 11,
    window_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    weights: Iterable[float] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333),
    reduction: str = "mean",
) -> Tensor:
    """Reference of :func:`vtadl_ext.ms_ssim`."""
    taps = window_taps(window, window_size, window_sigma)
    exponents = list(map(float, weights))
    x, y = widen(x), widen(y)
    product = torch.ones_like(x[..., 0, 0])
    for scale, exponent in enumerate(exponents):
        if scale > 0:
            x, y = _halve(x), _halve(y)
        luminance = scale == len(exponents) - 1
        index, _ = window_index(x, y, taps, data_range, k1, k2, luminance=luminance)
        product = product * _power(index.mean((-2, -1)), exponent)
    return product.mean() if reduction == "mean" else product.mean(-1)


def _halve(image: Tensor) -> Tensor:
    """Means of 2 x 2 pixels. An odd size gets a zero before the first pixel, as in pytorch-msssim."""
    # The padding of avg_pool2d has wrong gradients for channels-last images on GPUs:
    # https://github.com/pytorch/pytorch/issues/188344
    return F.avg_pool2d(F.pad(image, (image.shape[-1] % 2, 0, image.shape[-2] % 2, 0)), 2)


def reconstruction_loss(
    x: Tensor,
    y: Tensor,
    *,
    mse: float = 1.0,
    l1: float = 0.0,
    ssim: float = 1.0,
    data_range: float = 1.0,
    window: str = "gaussian",
    window_size: int = 11,
    window_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    return_terms: bool = False,
) -> Tensor | tuple[Tensor, ReconstructionTerms]:
    """Reference of :func:`vtadl_ext.reconstruction_loss`."""
    taps = window_taps(window, window_size, window_sigma)
    difference = widen(x) - widen(y)
    squared, absolute = difference.square().mean(), difference.abs().mean()
    index = window_index(x, y, taps, data_range, k1, k2)[0].mean()
    weighted = [(mse, squared), (l1, absolute), (ssim, 1 - index)]
    loss = sum((weight * term for weight, term in weighted if weight != 0), index.new_zeros(()))
    terms = ReconstructionTerms(squared.detach(), absolute.detach(), index.detach())
    return (loss, terms) if return_terms else loss


def _spatial_dims(image: Tensor) -> int:
    return 3 if image.dim() == 5 else 2


def window_taps(window: str, size: int, sigma: float) -> list[float]:
    """The taps of a one-dimensional window, computed in double precision, with sum 1."""
    centre = (size - 1) / 2
    distances = [(i - centre) / sigma for i in range(size)]
    # Not distance**2: torch.compile, where sigma varies, cannot take powers of negative numbers.
    taps = [1.0 if window == "uniform" else math.exp(-0.5 * distance * distance) for distance in distances]
    return [tap / math.fsum(taps) for tap in taps]


def pad_image(image: Tensor, window_size: int, padding: str) -> Tensor:
    """The image with the border that `padding` asks for. A border of reflections or zeros is in float32."""
    if padding == "valid":
        return image
    image = widen(image)  # the gradients of a pixel and of its reflections add up
    dims, width = _spatial_dims(image), window_size // 2
    if padding == "same":
        return F.pad(image, [width] * (2 * dims))
    copy = {"reflect": _reflect}[padding]
    for dim in range(-dims, 0):
        image = copy(image, width, dim)
    return image


def _reflect(image: Tensor, width: int, dim: int) -> Tensor:
    # F.pad would add the gradients in a varying order on a GPU.
    ends = (slice(1, width + 1), slice(-width - 1, -1))
    image = image.movedim(dim, -1)
    before, after = (image[..., end].flip(-1) for end in ends)
    return torch.cat((before, image, after), -1).movedim(-1, dim)


# The smallest sum of the taps over the valid pixels of a window. Below it a window counts as empty. The
# kernels have the same limit: csrc/ssim/math.h.
_MIN_WEIGHT = 1e-12


def window_index(
    x: Tensor,
    y: Tensor,
    taps: Sequence[float],
    data_range: float,
    k1: float,
    k2: float,
    padding: str = "valid",
    mask: Tensor | None = None,
    *,
    luminance: bool = True,
) -> tuple[Tensor, Tensor]:
    """The index of each window, and whether it has valid pixels. Without any its index is 0."""
    dims, size = _spatial_dims(x), len(taps)
    # The zeros that surround a mask under "same" are not valid.
    valid = None if mask is None else pad_image(mask.expand(x.shape).float(), size, padding) > 0
    x, y = (pad_image(widen(image) / data_range, size, padding) for image in (x, y))
    if valid is None:
        valid = torch.ones_like(x, dtype=torch.bool)
    (x, pivot_x), (y, pivot_y) = (_centred(image, valid, dims) for image in (x, y))
    statistics = torch.stack([valid.to(x.dtype), x, y, x * x + y * y, x * y])
    weight, *sums = _blur(statistics, taps, dims).unbind()
    has_valid = weight >= _MIN_WEIGHT
    dx, dy, squares, product = (total / weight.masked_fill(~has_valid, 1) for total in sums)

    c1, c2 = k1 * k1, k2 * k2
    variances = (squares - dx * dx - dy * dy).clamp(min=0)
    index = (2 * (product - dx * dy) + c2) / (variances + c2)
    if luminance:
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


def _blur(images: Tensor, taps: Sequence[float], dims: int) -> Tensor:
    """Weighted sums under the window. PyTorch's convolutions might round, in TF32 or under autocast."""
    for dim in range(-dims, 0):
        size = images.shape[dim] - len(taps) + 1
        total = taps[0] * images.narrow(dim, 0, size)
        for i, tap in enumerate(taps[1:], 1):
            total = torch.add(total, images.narrow(dim, i, size), alpha=tap)
        images = total
    return images


# Means that are smaller than this are rounding errors, or negative.
_MIN_MEAN = 1e-7


def _power(mean: Tensor, exponent: float) -> Tensor:
    """The power. It is 0, with gradient 0, where the slope of fractional powers would be infinite."""
    is_small = mean < _MIN_MEAN
    return mean.masked_fill(is_small, 1).pow(exponent).masked_fill(is_small, 0)
