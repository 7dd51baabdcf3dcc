"""The paddings of SSIM that copy pixels. The kernels pad with zeros themselves."""

import torch
from torch import Tensor

from vtadl_ext._binary import accumulate_dtype


def pad_image(image: Tensor, width: int, padding: str) -> Tensor:
    """The image in at least float32, because the gradients of a pixel and of its copies add up."""
    return COPIES[padding](image.to(accumulate_dtype(image.dtype)), width)


def pad_mask(mask: Tensor, width: int, padding: str) -> Tensor:
    """The mask of an image that :func:`pad_image` pads."""
    return COPIES[padding](mask, width)


def _reflect(image: Tensor, width: int) -> Tensor:
    # torch.nn.functional.pad would add the gradients in a varying order on a GPU, and Tensor.narrow would put
    # the size of the image into a trace.
    first, last = slice(1, width + 1), slice(-width - 1, -1)
    rows = torch.cat((image[..., first, :].flip(-2), image, image[..., last, :].flip(-2)), -2)
    return torch.cat((rows[..., first].flip(-1), rows, rows[..., last].flip(-1)), -1)


COPIES = {"reflect": _reflect}
PADDINGS = ("valid", "same", *COPIES)
