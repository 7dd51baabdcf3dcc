"""From prepared images to calls of the operators of SSIM, and to means of what these return."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vtadl_ext import _binary, _ssim_ops
from vtadl_ext._autograd import is_traced
from vtadl_ext._images import Pair
from vtadl_ext._padding import COPIES, pad_image, pad_mask
from vtadl_ext._reductions import mean_over_windows
from vtadl_ext._ssim_options import COMPONENTS, SSIMKernelArguments, SSIMOptions, Taps
from vtadl_ext._windows import MAX_KERNEL_TAPS


def fit_kernels(taps: Taps) -> bool:
    """Whether the kernels serve images with a window of these taps."""
    return len(taps) == 2 and len(taps[0]) <= MAX_KERNEL_TAPS and len(taps[1]) <= MAX_KERNEL_TAPS


def check_size(pair: Pair, taps: Taps, padding: str | None = None) -> None:
    """Images that hold a window, or as much of it as the padding needs."""
    causes = {} if padding is None else {"padding": padding}
    check_sizes(pair, taps, [_least_side(len(axis), padding) for axis in taps], **causes)


def _least_side(size: int, padding: str | None) -> int:
    if padding == "same":  # zeros can surround any image
        return 1
    if padding in COPIES:  # a mirrored border is at most as wide as the image, or as the pixels that it shows
        return size // 2 + COPIES[padding]
    return size


def check_scales(pair: Pair, taps: Taps, scales: int, odd_sides: str) -> None:
    """Images that hold a window when they have been halved to the coarsest scale."""
    factor = 2 ** (scales - 1)
    causes: dict[str, object] = {"scales": scales}
    if odd_sides == "drop":
        least = [len(axis) * factor for axis in taps]
        causes["odd_sides"] = odd_sides
    else:
        least = [(len(axis) - 1) * factor + 1 for axis in taps]
    check_sizes(pair, taps, least, **causes)


def check_sizes(pair: Pair, taps: Taps, least: Sequence[int], **causes: object) -> None:
    sizes = pair.x.shape[2:]
    if any(size < smallest for size, smallest in zip(sizes, least, strict=True)):
        wanted, got = (" x ".join(map(str, numbers)) for numbers in (least, sizes))
        causes = {"window_size": _common_size(taps), **causes}
        reasons = " and ".join(f"{name} = {value!r}" for name, value in causes.items())
        raise ValueError(f"x must be at least {wanted} pixels for {reasons}, got {got}")


def _common_size(taps: Taps) -> int | tuple[int, ...]:
    sizes = tuple(len(axis) for axis in taps)
    return sizes[0] if len(set(sizes)) == 1 else sizes


def kernel_arguments(pair: Pair, options: SSIMOptions, taps: Taps) -> SSIMKernelArguments:
    x, y, mask = pair.x, pair.y, pair.mask
    vertical, horizontal = taps
    if options.padding in COPIES:
        widths = (len(vertical) // 2, len(horizontal) // 2)
        mask = None if mask is None else pad_mask(mask, widths, options.padding)
        x, y = (pad_image(image, widths, options.padding) for image in (x, y))
    return SSIMKernelArguments(
        *(x, y, mask, vertical, horizontal),
        data_range=pair.data_range,
        k1=float(options.k1),
        k2=options.kernel_k2(taps),
        bordered=options.padding == "same",
        component=COMPONENTS.index(options.component),
    )


def count_windows(arguments: SSIMKernelArguments) -> int | Tensor:
    if arguments.bordered:
        return count_pixels(arguments.x)
    rows, columns = len(arguments.vertical) - 1, len(arguments.horizontal) - 1
    return count_pixels(arguments.x[..., rows:, columns:])


def count_pixels(images: Tensor) -> int | Tensor:
    """The number of pixels, which is computed from the images where a trace would remember it."""
    dtype = _binary.accumulate_dtype(images.dtype)
    return torch.ones_like(images, dtype=dtype).sum() if is_traced() else images.numel()


def mean(arguments: SSIMKernelArguments, sign: float) -> Tensor:
    """`sign` times the mean over the windows of all images."""
    coefficients = (sign, 0.0, 0.0, 0.0)  # of the sums, in their order
    if arguments.mask is None:
        return _ssim_ops.ssim_total(coefficients, (count_windows(arguments), 1, 1, 1), arguments)[0]
    total, sums = _ssim_ops.ssim_total(coefficients, (1, 1, 1, 1), arguments)
    return mean_over_windows(total, sums[_binary.WINDOWS])


def means_of_images(arguments: SSIMKernelArguments) -> Tensor:
    """``[N]``."""
    sums = _ssim_ops.ssim_sums(arguments)
    total = sums[..., _binary.INDEX].sum(-1)
    return mean_over_windows(total, sums[..., _binary.WINDOWS].detach().sum(-1))


def means_of_planes(arguments: SSIMKernelArguments) -> Tensor:
    """``[N, C]``, of images that all have windows."""
    sums = _ssim_ops.ssim_sums(arguments)
    return sums[..., _binary.INDEX] / sums[..., _binary.WINDOWS].detach()
