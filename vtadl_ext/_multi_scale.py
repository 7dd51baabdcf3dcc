"""Multi-scale SSIM: the image pyramid and the product over its scales."""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import mul

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl_ext._autograd import is_traced
from vtadl_ext._binary import accumulate_dtype

# Means that are smaller than this are rounding errors, or negative.
_MIN_MEAN = 1e-7

# The mean index of each plane, [*, C], of a pair of images, with the luminance factor or without it.
PlaneMeans = Callable[[Tensor, Tensor, bool], Tensor]


def multi_scale_index(plane_means: PlaneMeans, x: Tensor, y: Tensor, exponents: Sequence[float]) -> Tensor:
    """The product over all scales of mean ** exponent for each plane, ``[*, C]``.

    The factors have no luminance, except that of the coarsest scale.
    """
    x, y = (image.to(accumulate_dtype(image.dtype)) for image in (x, y))
    halve = _halve_traced if is_traced() else _halve
    *finer, coarsest = exponents
    factors = []
    for exponent in finer:
        factors.append(_power(plane_means(x, y, False), exponent))
        x, y = halve(x), halve(y)
    factors.append(_power(plane_means(x, y, True), coarsest))
    return reduce(mul, factors)


def _halve(image: Tensor) -> Tensor:
    """Means of 2 x 2 pixels. An odd side gets a zero before its first pixel, as in pytorch-msssim."""
    # The padding of avg_pool2d has wrong gradients for channels-last images on GPUs:
    # https://github.com/pytorch/pytorch/issues/188344
    odd_height, odd_width = (side % 2 for side in image.shape[-2:])
    return F.avg_pool2d(F.pad(image, (odd_width, 0, odd_height, 0)), kernel_size=2)


def _halve_traced(image: Tensor) -> Tensor:
    """The same without a condition on odd sides, whose outcome a trace would keep for all images."""
    halved = F.avg_pool2d(image.flip((-2, -1)), 2, ceil_mode=True, divisor_override=4)
    return halved.flip((-2, -1))


def _power(mean: Tensor, exponent: float) -> Tensor:
    """mean ** exponent. Where the slope would be infinite, the power and its gradient are 0."""
    vanishes = mean < _MIN_MEAN
    power = torch.where(vanishes, 1.0, mean).pow(exponent)
    return torch.where(vanishes, 0.0, power)
