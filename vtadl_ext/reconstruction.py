"""The error of a reconstruction: squared, absolute and structural, fused."""

from collections.abc import Sequence
from typing import Any, Literal, overload

from torch import Tensor

from vtadl_ext import _fallback, _ssim_ops
from vtadl_ext._autograd import kernels_serve
from vtadl_ext._checks import check_number
from vtadl_ext._images import ImageOptions, prepare
from vtadl_ext._ssim_calls import check_size, count_pixels, count_windows, fit_kernels, kernel_arguments
from vtadl_ext._ssim_options import SSIMOptions
from vtadl_ext._types import ReconstructionTerms

DataRange = float | Tensor | tuple[float, float] | None


# fmt: off
@overload
def reconstruction_loss(
    x: Tensor, y: Tensor, *, mse: float = ..., l1: float = ..., ssim: float = ...,
    data_range: DataRange = ..., window: str | Sequence[Any] = ...,
    window_size: int | Sequence[int] = ..., window_sigma: float | Sequence[float] = ...,
    k1: float = ..., k2: float = ..., return_terms: Literal[False] = ...,
) -> Tensor: ...
@overload
def reconstruction_loss(
    x: Tensor, y: Tensor, *, mse: float = ..., l1: float = ..., ssim: float = ...,
    data_range: DataRange = ..., window: str | Sequence[Any] = ...,
    window_size: int | Sequence[int] = ..., window_sigma: float | Sequence[float] = ...,
    k1: float = ..., k2: float = ..., return_terms: Literal[True],
) -> tuple[Tensor, ReconstructionTerms]: ...
@overload
def reconstruction_loss(
    x: Tensor, y: Tensor, *, mse: float = ..., l1: float = ..., ssim: float = ...,
    data_range: DataRange = ..., window: str | Sequence[Any] = ...,
    window_size: int | Sequence[int] = ..., window_sigma: float | Sequence[float] = ...,
    k1: float = ..., k2: float = ..., return_terms: bool,
) -> Tensor | tuple[Tensor, ReconstructionTerms]: ...
# fmt: on
def reconstruction_loss(
    x: Tensor,
    y: Tensor,
    *,
    mse: float = 1.0,
    l1: float = 0.0,
    ssim: float = 1.0,
    data_range: DataRange = None,
    window: str | Sequence[Any] = "gaussian",
    window_size: int | Sequence[int] = 11,
    window_sigma: float | Sequence[float] = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    return_terms: bool = False,
) -> Tensor | tuple[Tensor, ReconstructionTerms]:
    r"""The error of a reconstruction: squared, absolute and structural, in one pass with all gradients.

    .. math:: \text{mse} \cdot \overline{(x-y)^2} + \text{l1} \cdot \overline{|x-y|}
              + \text{ssim} \cdot (1 - \text{SSIM}(x, y))

    with means over all pixels, and :func:`ssim` over valid windows.

    Args:
        x: images, ``[N, C, H, W]``, ``[C, H, W]`` or ``[H, W]``, not smaller than the window, whatever the
            weights.
        y: images of the same shape, dtype and device.
        mse, l1, ssim: weights, 0 or more. A weight of 0 leaves its term out of the loss.
        data_range, window, window_size, window_sigma, k1, k2: as in :func:`ssim`.
        return_terms: whether to return the terms as well.

    Returns:
        The loss, a scalar. With `return_terms` a pair of the loss and :class:`ReconstructionTerms`: the
        unweighted means of squared differences, of absolute differences and of the index, without gradients.
        All are float32 for half-precision input.

    Raises:
        TypeError, ValueError: as :func:`ssim`.
    """
    options = SSIMOptions(data_range, window, window_size, window_sigma, k1, k2).checked()
    for name, weight in (("mse", mse), ("l1", l1), ("ssim", ssim)):
        check_number(name, weight, zero_allowed=True)
    pair = prepare(x, y, None, data_range, ImageOptions())
    options = options._replace(data_range=pair.data_range)
    taps = options.taps(pair.axes)
    check_size(pair, taps)
    # The kernels would multiply the gradient of the index, which may be NaN, by a weight of 0.
    without_index = ssim == 0 and (mse != 0 or l1 != 0)
    if without_index or not fit_kernels(taps) or not kernels_serve(pair.x, pair.y):
        weights = {"mse": mse, "l1": l1, "ssim": ssim}
        return _fallback.reconstruction_loss(pair.x, pair.y, options, weights, return_terms)

    arguments = kernel_arguments(pair, options, taps)
    coefficients = (-ssim, 0.0, mse, l1)  # of the sums, in their order
    pixels = count_pixels(pair.x)
    counts = (count_windows(arguments), 1, pixels, pixels)
    errors = return_terms or mse != 0 or l1 != 0
    total, sums = _ssim_ops.ssim_total(coefficients, counts, arguments, errors)
    loss = ssim + total
    if not return_terms:
        return loss
    mean, _, squared, absolute = (part / count for part, count in zip(sums.unbind(), counts, strict=True))
    return loss, ReconstructionTerms(squared, absolute, mean)
