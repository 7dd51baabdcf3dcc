"""The SSIM operators in plain PyTorch."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl_ext.reference._sums import reduce, widen


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
    weights = window_weights(window, window_size, window_sigma)
    index, counted = window_index(x, y, weights, data_range, k1, k2, padding, mask)
    if reduction == "map":
        return index
    dims = tuple(range(-1 - spatial_dims(x), 0)) if reduction == "none" else tuple(range(-x.dim(), 0))
    return mean_over_windows(index.sum(dims), counted.sum(dims))


def mean_over_windows(total: Tensor, windows: Tensor) -> Tensor:
    """NaN, with gradients 0, where there are none."""
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
    taps = window_weights(window, window_size, window_sigma)

    def plane_means(x: Tensor, y: Tensor, luminance: bool) -> Tensor:
        return window_index(x, y, taps, data_range, k1, k2, luminance=luminance)[0].mean((-2, -1))

    return ms_ssim_of(plane_means, x, y, tuple(map(float, weights)), reduction, halve)


def ms_ssim_of(
    plane_means: Callable[[Tensor, Tensor, bool], Tensor],
    x: Tensor,
    y: Tensor,
    weights: Sequence[float],
    reduction: str,
    halve: Callable[[Tensor], Tensor],
) -> Tensor:
    """MS-SSIM by the means of the index over each plane, with luminance or without, ``[*, C]``."""
    x, y = widen(x), widen(y)
    product = None
    for scale, weight in enumerate(weights):
        if scale > 0:
            x, y = halve(x), halve(y)
        factor = _power(plane_means(x, y, scale == len(weights) - 1), weight)
        product = factor if product is None else product * factor
    assert product is not None
    return reduce(product if reduction == "mean" else product.mean(-1), reduction)


def halve(image: Tensor) -> Tensor:
    """Means of 2 x 2 pixels. An odd size gets a zero before the first pixel, as in pytorch-msssim."""
    # Not by avg_pool2d's own padding, with which it takes wrong gradients of channels-last images on GPUs:
    # https://github.com/pytorch/pytorch/issues/188344
    return F.avg_pool2d(F.pad(image, (image.shape[-1] % 2, 0, image.shape[-2] % 2, 0)), 2)


class ReconstructionTerms(NamedTuple):
    """What :func:`vtadl_ext.reconstruction_loss` is made of; scalars without gradients."""

    mse: Tensor
    l1: Tensor
    ssim: Tensor


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
    weights = window_weights(window, window_size, window_sigma)
    difference = widen(x) - widen(y)
    squared, absolute = difference.square().mean(), difference.abs().mean()
    index = window_index(x, y, weights, data_range, k1, k2)[0].mean()
    parts = [(mse, squared), (l1, absolute), (ssim, 1 - index)]
    loss = sum((weight * term for weight, term in parts if weight != 0), index.new_zeros(()))
    terms = ReconstructionTerms(squared.detach(), absolute.detach(), index.detach())
    return (loss, terms) if return_terms else loss


def spatial_dims(image: Tensor) -> int:
    return 3 if image.dim() == 5 else 2


def window_weights(window: str, size: int, sigma: float) -> list[float]:
    """Weights of a one-dimensional window, computed in double precision, with sum 1."""
    centre = (size - 1) / 2
    distances = [(i - centre) / sigma for i in range(size)]
    # Not distance**2: torch.compile, where sigma varies, cannot take powers of negative numbers.
    weights = [1.0 if window == "uniform" else math.exp(-0.5 * distance * distance) for distance in distances]
    return [weight / math.fsum(weights) for weight in weights]


def pad(image: Tensor, window_size: int, padding: str) -> Tensor:
    """The image with the border that `padding` asks for: none, or zeros or its reflection, then widened."""
    if padding == "valid":
        return image
    image = widen(image)  # gradients of a pixel and of its reflections add up
    dims, width = spatial_dims(image), window_size // 2
    if padding == "same":
        return F.pad(image, [width] * (2 * dims))
    for dim in range(-dims, 0):
        image = _reflect(image, width, dim)
    return image


def _reflect(image: Tensor, width: int, dim: int) -> Tensor:
    """Not by F.pad, which on a GPU adds its gradients in any order."""
    ends = (slice(1, width + 1), slice(-width - 1, -1))
    image = image.movedim(dim, -1)
    before, after = (image[..., end].flip(-1) for end in ends)
    return torch.cat((before, image, after), -1).movedim(-1, dim)


def pad_mask(mask: Tensor, window_size: int, padding: str) -> Tensor:
    """The mask of each pixel, padded as the images are; the zeros around them are not valid."""
    return pad(mask.float(), window_size, padding) > 0


# Windows whose valid pixels weigh less have none, as for the kernels: csrc/ssim/math.h.
_LEAST_WEIGHT = 1e-12


def window_index(
    x: Tensor,
    y: Tensor,
    weights: Sequence[float],
    data_range: float,
    k1: float,
    k2: float,
    padding: str = "valid",
    mask: Tensor | None = None,
    *,
    luminance: bool = True,
) -> tuple[Tensor, Tensor]:
    """The index of each window, and whether that has valid pixels: without any the index is 0."""
    dims, taps = spatial_dims(x), len(weights)
    valid = None if mask is None else pad_mask(mask.expand(x.shape), taps, padding)
    x, y = (pad(widen(image) / data_range, taps, padding) for image in (x, y))
    if valid is None:
        valid = torch.ones_like(x, dtype=torch.bool)
    (x, pivot_x), (y, pivot_y) = (_centred(image, valid, dims) for image in (x, y))
    statistics = torch.stack([valid.to(x.dtype), x, y, x * x + y * y, x * y])
    weight, *sums = _blur(statistics, weights, dims).unbind()
    counted = weight >= _LEAST_WEIGHT
    dx, dy, squares, product = (total / weight.masked_fill(~counted, 1) for total in sums)

    c1, c2 = k1 * k1, k2 * k2
    variances = (squares - dx * dx - dy * dy).clamp(min=0)
    index = (2 * (product - dx * dy) + c2) / (variances + c2)
    if luminance:
        mean_x, mean_y = dx + pivot_x, dy + pivot_y
        index = index * (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return index.masked_fill(~counted, 0), counted


def _centred(image: Tensor, valid: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Each plane or volume less the mean of its valid pixels, lest variances cancel, and that mean."""
    axes = tuple(range(-dims, 0))
    image = image.masked_fill(~valid, 0)
    mean = image.detach().sum(axes, keepdim=True) / valid.sum(axes, keepdim=True).clamp(min=1)
    mean = mean.nan_to_num(0, 0, 0)  # a pixel that is no number spoils only the windows that hold it
    return (image - mean).masked_fill(~valid, 0), mean


def _blur(images: Tensor, weights: Sequence[float], dims: int) -> Tensor:
    """Weighted sums under the window. PyTorch's convolutions might round: in TF32, or under autocast."""
    for dim in range(-dims, 0):
        size = images.shape[dim] - len(weights) + 1
        total = weights[0] * images.narrow(dim, 0, size)
        for i, weight in enumerate(weights[1:], 1):
            total = torch.add(total, images.narrow(dim, i, size), alpha=weight)
        images = total
    return images


# A smaller mean is rounding, or negative.
_LEAST_BASE = 1e-7


def _power(mean: Tensor, exponent: float) -> Tensor:
    """The power; 0, with gradient 0, where the slope of fractional powers goes to infinity."""
    vanishes = mean < _LEAST_BASE
    return mean.masked_fill(vanishes, 1).pow(exponent).masked_fill(vanishes, 0)
