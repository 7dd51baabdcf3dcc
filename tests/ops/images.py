"""Random images for the tests of `ssim`."""

import torch
from torch import Tensor

from vtadl_ext import reference, ssim

from .comparison import check_against_reference


def random_images(
    *shape: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    noise: float = 0.2,
    seed: int = 0,
) -> dict[str, Tensor]:
    """An image and a noisy copy, with values around 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    y = x + noise * torch.randn(shape, generator=generator, dtype=torch.float64)
    return {name: image.to(device, dtype) for name, image in (("x", x), ("y", y))}


def check_ssim(images: dict[str, Tensor], **options: object) -> None:
    if images["x"].dtype == torch.float32:
        options = {"value_tolerance": 4e-6, "grad_tolerance": 1e-5} | options
    check_against_reference(ssim, reference.ssim, images, **options)
