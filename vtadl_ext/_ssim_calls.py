"""From prepared images to calls of the operators of SSIM, and to means of what these return."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vtadl_ext import _binary, _ssim_ops
from vtadl_ext._autograd import is_traced
from vtadl_ext._images import Pair
from vtadl_ext._padding import COPIES, pad_image, pad_mask
from vtadl_ext._reductions import mean_over_windows
from vtadl_ext._ssim_options import COMPONENTS, SSIMKernelArguments, SSIMOptions


def check_size(pair: Pair, options: SSIMOptions, **causes: object) -> None:
    """Images that hold a window."""
    taps = options.taps(pair.axes)
    # Zeros can surround any image, but a reflection is at most as wide as the image inside its border.
    least_of_size = {
        "valid": lambda size: size,
        "same": lambda size: 1,
        "reflect": lambda size: size // 2 + 1,
        "symmetric": lambda size: size // 2,
    }[options.padding]
    check_sizes(pair, taps, [least_of_size(len(axis)) for axis in taps], **causes)


def check_scales(pair: Pair, options: SSIMOptions, scales: int, odd_sides: str) -> None:
    """Images that hold a window when they have been halved to the coarsest scale."""
    taps, factor = options.taps(pair.axes), 2 ** (scales - 1)
    causes: dict[str, object] = {"scales": scales}
    if odd_sides == "drop":
        least = [len(axis) * factor for axis in taps]
        causes["odd_sides"] = odd_sides
    else:
        least = [(len(axis) - 1) * factor + 1 for axis in taps]
    check_sizes(pair, taps, least, **causes)


def check_sizes(pair: Pair, taps: Sequence[Sequence[float]], least: Sequence[int], **causes: object) -> None:
    sizes = pair.x.shape[2:]
    if any(size < smallest for size, smallest in zip(sizes, least, strict=True)):
        wanted, got = (" x ".join(map(str, numbers)) for numbers in (least, sizes))
        causes = {"window_size": _common_size(taps), **causes}
        reasons = " and ".join(f"{name} = {value!r}" for name, value in causes.items())
        raise ValueError(f"x must be at least {wanted} pixels for {reasons}, got {got}")


def _common_size(taps: Sequence[Sequence[float]]) -> int | tuple[int, ...]:
    sizes = tuple(len(axis) for axis in taps)
    return sizes[0] if len(set(sizes)) == 1 else sizes


def kernel_arguments(pair: Pair, options: SSIMOptions) -> SSIMKernelArguments:
    x, y, mask = pair.x, pair.y, pair.mask
    vertical, horizontal = options.taps(2)
    if options.padding in COPIES:
        widths = (len(vertical) // 2, len(horizontal) // 2)
        mask = None if mask is None else pad_mask(mask, widths, options.padding)
        x, y = (pad_image(image, widths, options.padding) for image in (x, y))
    return SSIMKernelArguments(
        *(x, y, mask, vertical, horizontal),
        data_range=pair.data_range,
        k1=float(options.k1),
        k2=options.kernel_k2(2),
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
