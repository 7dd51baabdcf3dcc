"""Multi-scale structural similarity of images, each scale fused."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from vtadl_ext import _fallback
from vtadl_ext._autograd import kernels_serve
from vtadl_ext._checks import check_option, checked_numbers
from vtadl_ext._images import ImageOptions, prepare
from vtadl_ext._multi_scale import HALVES, multi_scale_index
from vtadl_ext._reductions import reduce
from vtadl_ext._ssim_calls import check_scales, fit_kernels, kernel_arguments, means_of_planes
from vtadl_ext._ssim_options import SSIMOptions


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
    r"""Multi-scale structural similarity of images, 1 where they are equal.

    .. math:: \text{ssim}_M^{w_M} \prod_{s<M} \text{cs}_s^{w_s}

    for each channel, where cs is the contrast and structure of :func:`ssim`, and both are means over valid
    windows. Each scale halves the size of the one before by 2 x 2 averages (Wang et al., "Multiscale
    structural similarity for image quality assessment", 2003). Where cs or ssim is below 1e-7, or negative,
    the product is 0 with gradients 0, because fractional powers have no finite gradient there.

    Args:
        x: images, ``[N, C, H, W]``, ``[C, H, W]`` or ``[H, W]``, with sides of more than
            ``(window_size - 1) * 2 ** (len(weights) - 1)`` pixels: 161 or more by default.
        y: images of the same shape, dtype and device.
        data_range, window, window_size, window_sigma, k1, k2: as in :func:`ssim`.
        weights: exponent of each scale, starting at the full size, in a list, an array, a tensor or the like.
            Their number is the number of scales.
        odd_sides: how a side of an odd number of pixels is halved. ``"replicate"``: the last pixel is
            averaged with itself, as by the authors' program and TensorFlow; ``"zeros"``: a zero precedes the
            first pixel, as in pytorch-msssim; ``"drop"``: the last pixel is left out, as in torchmetrics.
        luma, crop_border, channels_last: as in :func:`ssim`.
        reduction: ``"mean"``; ``"none"``: the mean over the channels of each image; ``"sum"``: the sum of
            these.

    Returns:
        A scalar, or ``[N]`` (a scalar for images that are no batch) under ``reduction="none"``. Its dtype is
        that of :func:`ssim`.

    Raises:
        TypeError, ValueError: as :func:`ssim`.
    """
    options = SSIMOptions(data_range, window, window_size, window_sigma, k1, k2).checked()
    exponents = checked_numbers("weights", weights)
    check_option("odd_sides", odd_sides, tuple(HALVES))
    check_option("reduction", reduction, ("mean", "sum", "none"))
    pair = prepare(x, y, None, data_range, ImageOptions(luma, crop_border, channels_last))
    options = options._replace(data_range=pair.data_range)
    if pair.x.shape[1] == 0:
        raise ValueError(f"x must have at least one channel, got {list(x.shape)}")
    taps = options.taps(pair.axes)
    check_scales(pair, taps, len(exponents), odd_sides)
    if not fit_kernels(taps) or not kernels_serve(pair.x, pair.y):
        index = _fallback.ms_ssim(pair.x, pair.y, options, exponents, odd_sides)
    else:

        def plane_means(x: Tensor, y: Tensor, component: str) -> Tensor:
            scale = pair._replace(x=x, y=y)
            return means_of_planes(kernel_arguments(scale, options._replace(component=component), taps))

        index = multi_scale_index(plane_means, pair.x, pair.y, exponents, odd_sides).mean(-1)
    return pair.means_of_caller(index) if reduction == "none" else reduce(index, reduction)
