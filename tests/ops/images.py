"""Random images and masks for the tests of `ssim` and its relatives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vtadl_ext import reference, ssim
from vtadl_ext._padding import PADDINGS

from .comparison import check_against_reference

EACH_PADDING = pytest.mark.parametrize("padding", PADDINGS)


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


def random_mask(*shape: int, valid: float = 0.7, device: torch.device | str = "cpu", seed: int = 0) -> Tensor:
    """A share `valid` of single pixels, and a hole that whole windows of few pixels fall into."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < valid
    mask[..., : shape[-2] // 2, : shape[-1] // 2] = False
    return mask.to(device)


def check_ssim(
    images: dict[str, Tensor],
    operator: Callable[..., Tensor] = ssim,
    oracle: Callable[..., Tensor] = reference.ssim,
    **options: object,
) -> None:
    if images["x"].dtype == torch.float32:
        options = {"grad_tolerance": 1e-5} | options
    check_against_reference(operator, oracle, images, **options)
