"""Structural similarity of images and volumes, fused."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vtadl_ext import _fallback, _ssim_ops
from vtadl_ext._autograd import kernels_serve
from vtadl_ext._checks import check_option
from vtadl_ext._images import IMAGES_AND_VOLUMES, ImageOptions, prepare
from vtadl_ext._ssim_calls import check_size, fit_kernels, kernel_arguments, mean, means_of_images
from vtadl_ext._ssim_options import SSIMOptions

_REDUCTIONS = ("mean", "sum", "none", "map")


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
    r"""Structural similarity index of two images, volumes, or batches of them, 1 where they are equal.

    .. math:: \frac{(2\mu_x\mu_y + c_1)(2\sigma_{xy} + c_2)}
                   {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)},
              \qquad c_i = (k_i \cdot \text{data\_range})^2

    with means, variances and covariance under a sliding window, for each channel on its own (Wang et al.,
    "Image quality assessment: from error visibility to structural similarity", 2004). Differentiable with
    respect to both images. The result is float32 for half-precision input and for integers of up to 16 bits,
    and float64 for wider integers.

    Args:
        x: images, ``[N, C, H, W]``, ``[C, H, W]`` or ``[H, W]``, or volumes, ``[N, C, D, H, W]``, of any
            strides, of floating-point numbers or integers. Volumes are composed of PyTorch's own operations:
            slower, and with more memory, than images.
        y: images of the same shape, dtype and device.
        data_range: difference between the largest and the smallest value that a pixel can have, a number or a
            tensor of one (which is read, so that a GPU is waited for). A pair ``(low, high)`` also clamps the
            images. By default it is 1 for floating-point images, and what the type of integers can hold: 255
            for uint8. In float32, pixels may be up to 1e9 times as large.
        window: ``"gaussian"``, ``"uniform"``, or taps of your own: an odd number of positive weights, the
            same from both ends, which are scaled to the sum 1. The window is their outer product along all
            axes; one sequence of taps for each axis makes it anisotropic.
        window_size: side of the window in pixels, odd, from 3, or a side for each axis, such as
            ``(height, width)``. Taps have their own. Windows of more than 31 pixels are composed of PyTorch's
            operations, as volumes are.
        window_sigma: standard deviation of the Gaussian window in pixels, or one for each axis.
        k1, k2: constants of the index.
        padding: ``"valid"``: only windows that lie inside the image; otherwise one window for each pixel:
            ``"same"``: with zeros around the image; ``"reflect"``: with the image mirrored at its outermost
            pixels; ``"symmetric"``: with the image mirrored at its border, outermost pixels included.
        mask: valid pixels, a bool tensor that broadcasts to the shape of `x`. The other pixels influence no
            window and have gradient 0, whatever they hold: the window's weights are normalised over the valid
            ones. With padding ``"same"`` the zeros around the image are not valid either. Windows without a
            valid pixel are 0 in the map and do not count in the means.
        component: ``"index"``, or one of its two factors: ``"contrast_structure"`` (of the variances and the
            covariance) or ``"luminance"`` (of the means).
        use_sample_covariance: whether variances and covariance are divided by the number of the window's
            pixels less 1, and not by that number.
        luma: ``"bt601"``, ``"bt709"`` or ``"matlab"`` (``rgb2ycbcr``) compare the luma of images with the
            channels red, green and blue. A pixel is then valid where all three are.
        crop_border: rows and columns that are left out at each side of the images.
        channels_last: whether the channels are the last dimension of `x`, `y`, `mask` and the map:
            ``[N, H, W, C]``, ``[H, W, C]``, ``[N, D, H, W, C]``.
        reduction: ``"mean"``; ``"none"``: the mean of each image; ``"sum"``: the sum of these;
            ``"map"``: the index of each window.

    Returns:
        A scalar; ``[N]`` (a scalar for images that are no batch) under ``reduction="none"``;
        ``[N, C, H', W']`` under ``"map"``, where ``H' = H - window_size + 1`` for valid padding and ``H``
        otherwise. The mean of no windows is NaN, with gradients 0.

    Raises:
        TypeError: an argument is no tensor or number, the images differ in dtype, or `mask` is not bool.
        ValueError: a shape, device or option does not fit; the message names it.
    """
    options = SSIMOptions(
        *(data_range, window, window_size, window_sigma, k1, k2, padding, component, use_sample_covariance)
    )
    return _similarity(x, y, options, ImageOptions(luma, crop_border, channels_last), mask, reduction)


class SSIMLoss(nn.Module):
    """1 - :func:`ssim` as a module, with its options fixed. A sum is that of 1 - index over the images."""

    def __init__(
        self,
        *,
        data_range: float | Tensor | tuple[float, float] | None = None,
        window: str | Sequence[Any] = "gaussian",
        window_size: int | Sequence[int] = 11,
        window_sigma: float | Sequence[float] = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
        padding: str = "valid",
        use_sample_covariance: bool = False,
        luma: str | None = None,
        crop_border: int = 0,
        channels_last: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        options = SSIMOptions(data_range, window, window_size, window_sigma, k1, k2, padding)
        self.options = options._replace(use_sample_covariance=use_sample_covariance).checked()
        self.image_options = ImageOptions(luma, crop_border, channels_last)
        self.image_options.check()
        check_option("reduction", reduction, _REDUCTIONS)
        self.reduction = reduction

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        reduction = "none" if self.reduction == "sum" else self.reduction
        loss = 1 + _similarity(x, y, self.options, self.image_options, mask, reduction, sign=-1.0)
        return loss.sum() if self.reduction == "sum" else loss

    def extra_repr(self) -> str:
        options = {**self.options._asdict(), **self.image_options._asdict(), "reduction": self.reduction}
        del options["component"]
        given = {name: value for name, value in options.items() if value not in (None, False)}  # or 0
        return ", ".join(f"{name}={value!r}" for name, value in given.items())


def _similarity(
    x: Tensor,
    y: Tensor,
    options: SSIMOptions,
    image_options: ImageOptions,
    mask: Tensor | None,
    reduction: str,
    *,
    sign: float = 1.0,
) -> Tensor:
    """`sign` times :func:`ssim`, so that the forward pass of a loss computes gradients of the right sign."""
    options = options.checked()
    pair = prepare(x, y, mask, options.data_range, image_options, IMAGES_AND_VOLUMES)
    options = options._replace(data_range=pair.data_range)
    check_option("reduction", reduction, _REDUCTIONS)
    taps = options.taps(pair.axes)
    check_size(pair, taps, options.padding)
    kind = "none" if reduction == "sum" else reduction
    if not fit_kernels(taps) or not kernels_serve(pair.x, pair.y, stacklevel=5):
        value = _fallback.ssim(pair.x, pair.y, options, pair.mask, kind)
        # Not a product with `sign`: under torch.func.jvp the tangent of a number times a scalar is float64.
        value = value if sign > 0 else -value
    else:
        arguments = kernel_arguments(pair, options, taps)
        if reduction == "mean":
            return mean(arguments, sign)
        value = _ssim_ops.ssim_map(arguments) if kind == "map" else means_of_images(arguments)
        value = sign * value
    if kind == "map":
        return pair.map_of_caller(value)
    if reduction == "mean":
        return value
    return value.sum() if reduction == "sum" else pair.means_of_caller(value)
