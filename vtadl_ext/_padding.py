"""The paddings of SSIM that copy pixels. The kernels pad with zeros themselves."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vtadl_ext._binary import accumulate_dtype


def pad_image(image: Tensor, widths: Sequence[int], padding: str) -> Tensor:
    """The image in at least float32, because the gradients of a pixel and of its copies add up."""
    return _mirror(image.to(accumulate_dtype(image.dtype)), widths, COPIES[padding])


def pad_mask(mask: Tensor, widths: Sequence[int], padding: str) -> Tensor:
    """The mask of an image that :func:`pad_image` pads."""
    return _mirror(mask, widths, COPIES[padding])


def _mirror(image: Tensor, widths: Sequence[int], skipped: int) -> Tensor:
    """The image mirrored at its border by so many rows and columns, without the outermost `skipped`."""
    # torch.nn.functional.pad would add the gradients in a varying order on a GPU, and Tensor.narrow would put
    # the size of the image into a trace.
    (above, below), (left, right) = (
        (slice(skipped, width + skipped), slice(-width - skipped, -skipped or None)) for width in widths
    )
    rows = torch.cat((image[..., above, :].flip(-2), image, image[..., below, :].flip(-2)), -2)
    return torch.cat((rows[..., left].flip(-1), rows, rows[..., right].flip(-1)), -1)


# How many of the outermost pixels have no copy.
COPIES = {"reflect": 1, "symmetric": 0}
PADDINGS = ("valid", "same", *COPIES)
