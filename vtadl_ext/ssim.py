"""Structural similarity of images, fused."""

from torch import Tensor

from vtadl_ext import _ops, reference
from vtadl_ext._checks import check_number, check_option, checked_tensors

_WINDOWS = ("gaussian", "uniform")
_PADDINGS = ("valid", "same", "reflect")
_REDUCTIONS = ("mean", "none", "map")
_MAX_WINDOW_SIZE = 31


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
    reduction: str = "mean",
) -> Tensor:
    r"""Structural similarity index of two images or batches of images, 1 where they are equal.

    .. math:: \frac{(2\mu_x\mu_y + c_1)(2\sigma_{xy} + c_2)}
                   {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)},
              \qquad c_i = (k_i \cdot \text{data\_range})^2

    with means, variances and covariance under a sliding window, for each channel on its own (Wang et al.,
    "Image quality assessment: from error visibility to structural similarity", 2004). Differentiable with
    respect to both images. The result is float32 for half-precision input.

    Args:
        x: images, ``[N, C, H, W]`` or ``[C, H, W]``.
        y: images of the same shape, dtype and device.
        data_range: difference between the largest and the smallest value that a pixel can have.
        window: ``"gaussian"`` or ``"uniform"``.
        window_size: side of the window in pixels, odd, from 3 to 31.
        window_sigma: standard deviation of the Gaussian window in pixels.
        k1, k2: constants of the index.
        padding: ``"valid"``: only windows that lie inside the image; ``"same"``: one window for each pixel,
            with zeros around the image; ``"reflect"``: the same with the image reflected at its border.
        reduction: ``"mean"``; ``"none"``: the mean of each image; ``"map"``: the index of each window.

    Returns:
        A scalar; ``[N]`` (a scalar for ``[C, H, W]``) under ``reduction="none"``; ``[N, C, H', W']`` under
        ``"map"``, where ``H' = H - window_size + 1`` for valid padding and ``H`` otherwise.

    Raises:
        TypeError: an argument is no tensor or number, or the images differ in dtype.
        ValueError: a shape, device or option does not fit; the message names it.
    """
    x, y = checked_tensors(x=x, y=y)
    check_option("window", window, _WINDOWS)
    check_option("padding", padding, _PADDINGS)
    check_option("reduction", reduction, _REDUCTIONS)
    _check_window_size(window_size)
    for name, value in (("data_range", data_range), ("window_sigma", window_sigma), ("k1", k1), ("k2", k2)):
        check_number(name, value)
    _check_shapes(x, y, window_size, padding)
    if not _ops.has_kernels(x.device):
        return reference.ssim(
            *(x, y),
            data_range=data_range,
            window=window,
            window_size=window_size,
            window_sigma=window_sigma,
            k1=k1,
            k2=k2,
            padding=padding,
            reduction=reduction,
        )
    x, y = (reference.pad(image, window_size, padding) for image in (x, y))
    weights = reference.window_weights(window, window_size, window_sigma)
    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    result: Tensor = _ops.SSIM.apply(x, y, weights, c1, c2, reduction == "map")
    if reduction == "map":
        return result
    windows = (x.shape[-2] - window_size + 1) * (x.shape[-1] - window_size + 1)
    return (result.mean(-1) if reduction == "none" else result.mean()) / windows


def _check_window_size(window_size: int) -> None:
    if isinstance(window_size, bool) or not isinstance(window_size, int):
        raise TypeError(f"window_size must be an integer, got {window_size!r}")
    if window_size % 2 == 0 or not 3 <= window_size <= _MAX_WINDOW_SIZE:
        raise ValueError(f"window_size must be odd and from 3 to {_MAX_WINDOW_SIZE}, got {window_size}")


def _check_shapes(x: Tensor, y: Tensor, window_size: int, padding: str) -> None:
    if x.dim() not in (3, 4):
        raise ValueError(f"x must have shape [N, C, H, W] or [C, H, W], got {list(x.shape)}")
    if x.shape != y.shape:
        raise ValueError(f"y must have the shape of x, {list(x.shape)}, got {list(y.shape)}")
    # Zeros can surround any image, but a reflection is at most as wide as what it reflects.
    smallest = {"valid": window_size, "same": 1, "reflect": window_size // 2 + 1}[padding]
    if min(x.shape[-2:]) < smallest:
        raise ValueError(
            f"x must be at least {smallest} x {smallest} pixels for window_size = {window_size} and "
            f"padding = {padding!r}, got {x.shape[-2]} x {x.shape[-1]}"
        )
