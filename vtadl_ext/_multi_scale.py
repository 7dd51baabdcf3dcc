"""Multi-scale SSIM: the image pyramid and the product over its scales."""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import mul

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl_ext._binary import accumulate_dtype

# Means that are smaller than this are rounding errors, or negative.
_MIN_MEAN = 1e-7

# The mean of each plane, [N, C], of a pair of images: that of a component of SSIM, given its name.
PlaneMeans = Callable[[Tensor, Tensor, str], Tensor]


def multi_scale_index(
    plane_means: PlaneMeans, x: Tensor, y: Tensor, exponents: Sequence[float], odd_sides: str
) -> Tensor:
    """The product over all scales of mean ** exponent for each plane, ``[N, C]``.

    The factors have no luminance, except that of the coarsest scale.
    """
    if x.is_floating_point():  # the gradients of all scales add up
        x, y = (image.to(accumulate_dtype(image.dtype)) for image in (x, y))
    halve = HALVES[odd_sides]
    *finer, coarsest = exponents
    factors = []
    for exponent in finer:
        factors.append(_power(plane_means(x, y, "contrast_structure"), exponent))
        x, y = (halve(image.to(accumulate_dtype(image.dtype))) for image in (x, y))
    factors.append(_power(plane_means(x, y, "index"), coarsest))
    return reduce(mul, factors)


def _replicating(image: Tensor) -> Tensor:
    """The last row or column of an odd side stands for its neighbour beyond the image, too."""
    return F.avg_pool2d(image, 2, ceil_mode=True)


def _zero_padding(image: Tensor) -> Tensor:
    """An odd side gets a zero before its first pixel."""
    # The padding of avg_pool2d has wrong gradients for channels-last images on GPUs:
    # https://github.com/pytorch/pytorch/issues/188344. A condition on odd sides would stay in a trace.
    halved = F.avg_pool2d(image.flip((-2, -1)), 2, ceil_mode=True, divisor_override=4)
    return halved.flip((-2, -1))


def _dropping(image: Tensor) -> Tensor:
    """The last row or column of an odd side is left out."""
    return F.avg_pool2d(image, 2)


# Means of 2 x 2 pixels, by what becomes of odd sides.
HALVES = {"replicate": _replicating, "zeros": _zero_padding, "drop": _dropping}


def _power(mean: Tensor, exponent: float) -> Tensor:
    """mean ** exponent. Where the slope would be infinite, the power and its gradient are 0."""
    vanishes = mean < _MIN_MEAN
    power = torch.where(vanishes, 1.0, mean).pow(exponent)
    return torch.where(vanishes, 0.0, power)
