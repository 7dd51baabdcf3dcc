"""Structural similarity of images and volumes, fused."""

from collections.abc import Iterable
from typing import Literal, overload

import torch
from torch import Tensor, nn

from vtadl_ext import _binary, _fallback, _ssim_ops
from vtadl_ext._autograd import is_traced, kernels_serve
from vtadl_ext._checks import check_mask, check_number, check_option, checked_numbers, checked_tensors
from vtadl_ext._multi_scale import multi_scale_index
from vtadl_ext._options import SSIMKernelArguments, SSIMOptions
from vtadl_ext._padding import COPIES, pad_image, pad_mask
from vtadl_ext._reductions import mean_over_windows
from vtadl_ext._types import ReconstructionTerms
from vtadl_ext._windows import window_taps

_REDUCTIONS = ("mean", "none", "map")

_IMAGES = {3: "[C, H, W]", 4: "[N, C, H, W]"}
_IMAGES_AND_VOLUMES = {**_IMAGES, 5: "[N, C, D, H, W]"}


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
    r"""Structural similarity index of two images, volumes, or batches of them, 1 where they are equal.

    .. math:: \frac{(2\mu_x\mu_y + c_1)(2\sigma_{xy} + c_2)}
                   {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)},
              \qquad c_i = (k_i \cdot \text{data\_range})^2

    with means, variances and covariance under a sliding window, for each channel on its own (Wang et al.,
    "Image quality assessment: from error visibility to structural similarity", 2004). Differentiable with
    respect to both images. The result is float32 for half-precision input.

    Args:
        x: images, ``[N, C, H, W]`` or ``[C, H, W]``, or volumes, ``[N, C, D, H, W]``, of any strides. Volumes
            are composed of PyTorch's own operations: slower, and with more memory, than images.
        y: images of the same shape, dtype and device.
        data_range: difference between the largest and the smallest value that a pixel can have. In float32,
            pixels may be up to 1e9 times as large.
        window: ``"gaussian"`` or ``"uniform"``.
        window_size: side of the window in pixels, odd, from 3 to 31.
        window_sigma: standard deviation of the Gaussian window in pixels.
        k1, k2: constants of the index.
        padding: ``"valid"``: only windows that lie inside the image; ``"same"``: one window for each pixel,
            with zeros around the image; ``"reflect"``: the same with the image reflected at its border.
        mask: valid pixels, a bool tensor that broadcasts to the shape of `x`. The other pixels influence no
            window and have gradient 0, whatever they hold: the window's weights are normalised over the valid
            ones. With padding ``"same"`` the zeros around the image are not valid either. Windows without a
            valid pixel are 0 in the map and do not count in the means.
        reduction: ``"mean"``; ``"none"``: the mean of each image; ``"map"``: the index of each window.

    Returns:
        A scalar; ``[N]`` (a scalar for ``[C, H, W]``) under ``reduction="none"``; ``[N, C, H', W']`` under
        ``"map"``, where ``H' = H - window_size + 1`` for valid padding and ``H`` otherwise. The mean of no
        windows is NaN, with gradients 0.

    Raises:
        TypeError: an argument is no tensor or number, the images differ in dtype, or `mask` is not bool.
        ValueError: a shape, device or option does not fit; the message names it.
    """
    options = SSIMOptions(data_range, window, window_size, window_sigma, k1, k2, padding)
    return _similarity(x, y, options, mask, reduction)


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
    r"""Multi-scale structural similarity of images, 1 where they are equal.

    .. math:: \text{ssim}_M^{w_M} \prod_{s<M} \text{cs}_s^{w_s}

    for each channel, where cs is :func:`ssim` without its factor of the means, and both are means over valid
    windows. Each scale halves the size of the one before by 2 x 2 averages (Wang et al., "Multiscale
    structural similarity for image quality assessment", 2003). Where cs or ssim is below 1e-7, or negative,
    the product is 0 with gradients 0, because fractional powers have no finite gradient there.

    Args:
        x: images, ``[N, C, H, W]`` or ``[C, H, W]``, with sides of more than
            ``(window_size - 1) * 2 ** (len(weights) - 1)`` pixels: 161 or more by default.
        y: images of the same shape, dtype and device.
        data_range, window, window_size, window_sigma, k1, k2: as in :func:`ssim`.
        weights: exponent of each scale, starting at the full size, in a list, an array, a tensor or the like.
            Their number is the number of scales.
        reduction: ``"mean"``, or ``"none"``: the mean over the channels of each image.

    Returns:
        A scalar, or ``[N]`` (a scalar for ``[C, H, W]``) under ``reduction="none"``. It is float32 for
        half-precision input.

    Raises:
        TypeError, ValueError: as :func:`ssim`.
    """
    options = SSIMOptions(data_range, window, window_size, window_sigma, k1, k2)
    x, y = _checked_images(x, y, _IMAGES, options)
    exponents = checked_numbers("weights", weights)
    check_option("reduction", reduction, ("mean", "none"))
    if x.shape[-3] == 0:
        raise ValueError(f"x must have at least one channel, got {list(x.shape)}")
    smallest = (window_size - 1) * 2 ** (len(exponents) - 1) + 1
    _check_size(x, smallest, window_size=window_size, scales=len(exponents))
    if not kernels_serve(x, y):
        return _fallback.ms_ssim(x, y, options, exponents, reduction)

    def plane_means(x: Tensor, y: Tensor, luminance: bool) -> Tensor:
        sums = _ssim_ops.ssim_sums(_for_kernels(x, y, options, luminance=luminance))
        means = sums[..., _binary.INDEX] / sums[..., _binary.WINDOWS].detach()
        return means if x.dim() == 4 else means.squeeze(0)

    index = multi_scale_index(plane_means, x, y, exponents)
    return index.mean() if reduction == "mean" else index.mean(-1)


# fmt: off
@overload
def reconstruction_loss(
    x: Tensor, y: Tensor, *, mse: float = ..., l1: float = ..., ssim: float = ...,
    data_range: float = ..., window: str = ..., window_size: int = ..., window_sigma: float = ...,
    k1: float = ..., k2: float = ..., return_terms: Literal[False] = ...,
) -> Tensor: ...
@overload
def reconstruction_loss(
    x: Tensor, y: Tensor, *, mse: float = ..., l1: float = ..., ssim: float = ...,
    data_range: float = ..., window: str = ..., window_size: int = ..., window_sigma: float = ...,
    k1: float = ..., k2: float = ..., return_terms: Literal[True],
) -> tuple[Tensor, ReconstructionTerms]: ...
@overload
def reconstruction_loss(
    x: Tensor, y: Tensor, *, mse: float = ..., l1: float = ..., ssim: float = ...,
    data_range: float = ..., window: str = ..., window_size: int = ..., window_sigma: float = ...,
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
    data_range: float = 1.0,
    window: str = "gaussian",
    window_size: int = 11,
    window_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    return_terms: bool = False,
) -> Tensor | tuple[Tensor, ReconstructionTerms]:
    r"""The error of a reconstruction: squared, absolute and structural, in one pass with all gradients.

    .. math:: \text{mse} \cdot \overline{(x-y)^2} + \text{l1} \cdot \overline{|x-y|}
              + \text{ssim} \cdot (1 - \text{SSIM}(x, y))

    with means over all pixels, and :func:`ssim` over valid windows.

    Args:
        x: images, ``[N, C, H, W]`` or ``[C, H, W]``, not smaller than the window, whatever the weights.
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
    options = SSIMOptions(data_range, window, window_size, window_sigma, k1, k2)
    x, y = _checked_images(x, y, _IMAGES, options)
    for name, weight in (("mse", mse), ("l1", l1), ("ssim", ssim)):
        check_number(name, weight, zero_allowed=True)
    _check_size(x, window_size, window_size=window_size)
    # The kernels would multiply the gradient of the index, which may be NaN, by a weight of 0.
    without_index = ssim == 0 and (mse != 0 or l1 != 0)
    if without_index or not kernels_serve(x, y):
        weights = {"mse": mse, "l1": l1, "ssim": ssim}
        return _fallback.reconstruction_loss(x, y, options, weights, return_terms)

    arguments = _for_kernels(x, y, options)
    coefficients = (-ssim, 0.0, mse, l1)  # of the sums, in their order
    pixels = _count_pixels(x)
    counts = (_count_windows(arguments), 1, pixels, pixels)
    errors = return_terms or mse != 0 or l1 != 0
    total, sums = _ssim_ops.ssim_total(coefficients, counts, arguments, errors)
    loss = ssim + total
    if not return_terms:
        return loss
    mean, _, squared, absolute = (part / count for part, count in zip(sums.unbind(), counts, strict=True))
    return loss, ReconstructionTerms(squared, absolute, mean)


class SSIMLoss(nn.Module):
    """1 - :func:`ssim` as a module, with its options fixed."""

    def __init__(
        self,
        *,
        data_range: float = 1.0,
        window: str = "gaussian",
        window_size: int = 11,
        window_sigma: float = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
        padding: str = "valid",
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.options = SSIMOptions(data_range, window, window_size, window_sigma, k1, k2, padding)
        self.options.check()
        check_option("reduction", reduction, _REDUCTIONS)
        self.reduction = reduction

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        return 1 + _similarity(x, y, self.options, mask, self.reduction, sign=-1.0)

    def extra_repr(self) -> str:
        options = {**self.options._asdict(), "reduction": self.reduction}
        return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _similarity(
    x: Tensor,
    y: Tensor,
    options: SSIMOptions,
    mask: Tensor | None,
    reduction: str,
    *,
    sign: float = 1.0,
) -> Tensor:
    """`sign` times :func:`ssim`, so that the forward pass of a loss computes gradients of the right sign."""
    x, y = _checked_images(x, y, _IMAGES_AND_VOLUMES, options)
    check_option("reduction", reduction, _REDUCTIONS)
    window_size, padding = options.window_size, options.padding
    # Zeros can surround any image, but a reflection is at most as wide as the image inside its border.
    smallest = {"valid": window_size, "same": 1, "reflect": window_size // 2 + 1}[padding]
    _check_size(x, smallest, window_size=window_size, padding=padding)
    check_mask(mask, x)
    if x.dim() == 5 or not kernels_serve(x, y, stacklevel=5):
        value = _fallback.ssim(x, y, options, mask, reduction)
        # Not a product with `sign`: under torch.func.jvp the tangent of a number times a scalar is float64.
        return value if sign > 0 else -value

    arguments = _for_kernels(x, y, options, mask)
    if reduction == "mean":
        return _mean(arguments, sign)
    result = _ssim_ops.ssim_map(arguments) if reduction == "map" else _means_of_images(arguments)
    return sign * (result.squeeze(0) if x.dim() == 3 else result)


def _for_kernels(
    x: Tensor,
    y: Tensor,
    options: SSIMOptions,
    mask: Tensor | None = None,
    *,
    luminance: bool = True,
) -> SSIMKernelArguments:
    size, padding = int(options.window_size), options.padding
    if mask is not None:
        mask = _mask_of_pixels(mask, x)
    if padding in COPIES:
        mask = None if mask is None else pad_mask(mask, size // 2, padding)
        x, y = (pad_image(image, size // 2, padding) for image in (x, y))
    if x.dim() == 3:
        x, y = x.unsqueeze(0), y.unsqueeze(0)
        mask = None if mask is None else mask.unsqueeze(0)
    return SSIMKernelArguments(
        *(x, y, mask),
        taps=window_taps(options.window, size, float(options.window_sigma)),
        data_range=float(options.data_range),
        k1=float(options.k1),
        k2=float(options.k2),
        border=size // 2 if padding == "same" else 0,
        luminance=luminance,
    )


def _mask_of_pixels(mask: Tensor, x: Tensor) -> Tensor:
    """The mask in the shape of x, which a trace must not remember."""
    return mask | torch.zeros_like(x, dtype=torch.bool) if is_traced() else mask.expand(x.shape)


def _count_windows(arguments: SSIMKernelArguments) -> int | Tensor:
    lost = len(arguments.taps) - 1 - 2 * arguments.border  # the rows and columns without a window
    return _count_pixels(arguments.x[..., lost:, lost:])


def _count_pixels(images: Tensor) -> int | Tensor:
    """The number of pixels, which is computed from the images where a trace would remember it."""
    dtype = _binary.accumulate_dtype(images.dtype)
    return torch.ones_like(images, dtype=dtype).sum() if is_traced() else images.numel()


def _mean(arguments: SSIMKernelArguments, sign: float) -> Tensor:
    coefficients = (sign, 0.0, 0.0, 0.0)  # of the sums, in their order
    if arguments.mask is None:
        return _ssim_ops.ssim_total(coefficients, (_count_windows(arguments), 1, 1, 1), arguments)[0]
    total, sums = _ssim_ops.ssim_total(coefficients, (1, 1, 1, 1), arguments)
    return mean_over_windows(total, sums[_binary.WINDOWS])


def _means_of_images(arguments: SSIMKernelArguments) -> Tensor:
    """``[N]``."""
    sums = _ssim_ops.ssim_sums(arguments)
    total = sums[..., _binary.INDEX].sum(-1)
    return mean_over_windows(total, sums[..., _binary.WINDOWS].detach().sum(-1))


def _checked_images(
    x: Tensor, y: Tensor, shapes: dict[int, str], options: SSIMOptions
) -> tuple[Tensor, Tensor]:
    """The images, once they and the options are checked."""
    x, y = checked_tensors(x=x, y=y)
    options.check()
    if x.dim() not in shapes:
        wanted = " or ".join(sorted(shapes.values(), key=len, reverse=True))
        raise ValueError(f"x must have shape {wanted}, got {list(x.shape)}")
    if x.shape != y.shape:
        raise ValueError(f"y must have the shape of x, {list(x.shape)}, got {list(y.shape)}")
    return x, y


def _check_size(x: Tensor, smallest: int, **causes: object) -> None:
    sizes = x.shape[2 if x.dim() == 5 else -2 :]
    if min(sizes) < smallest:
        wanted, got = " x ".join([str(smallest)] * len(sizes)), " x ".join(map(str, sizes))
        reasons = " and ".join(f"{name} = {value!r}" for name, value in causes.items())
        raise ValueError(f"x must be at least {wanted} pixels for {reasons}, got {got}")
