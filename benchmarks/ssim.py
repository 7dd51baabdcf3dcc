"""`ssim` beside the libraries that compute it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

import vtadl_ext
from benchmarks import sweeps
from benchmarks.case import FIRST_GRADIENT, FORWARD, GRADIENTS, OWN, Case, Mode, Provider

_TAPS = 11
_SIDE = "height and width"


def pytorch_msssim_ssim(x: Tensor, y: Tensor) -> Tensor:
    import pytorch_msssim

    return pytorch_msssim.ssim(x, y, data_range=1.0)


def torchmetrics_ssim(x: Tensor, y: Tensor) -> Tensor:
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, index = structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    return index[..., 5:-5, 5:-5].mean()  # torchmetrics' windows reach beyond the image


def kornia_ssim(x: Tensor, y: Tensor) -> Tensor:
    import kornia.metrics

    return kornia.metrics.ssim(x, y, _TAPS, 1.0, padding="valid").mean()


def scikit_image_ssim(x: Tensor, y: Tensor) -> Tensor:
    from skimage.metrics import structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    pairs = zip(x.numpy(), y.numpy(), strict=True)
    return torch.tensor([structural_similarity(a, b, channel_axis=0, **options) for a, b in pairs]).mean()


def fused_ssim(x: Tensor, y: Tensor) -> Tensor:
    from fused_ssim import fused_ssim

    return fused_ssim(x, y, padding="valid", train=x.requires_grad)


def fussim_ssim(x: Tensor, y: Tensor) -> Tensor:
    from fussim import fused_ssim

    return fused_ssim(x, y, padding="valid", train=x.requires_grad)


_ONE_GRADIENT: dict[str, Any] = {"modes": ("forward", "first gradient"), "devices": ("cuda",)}
SWEPT = (
    Provider(OWN, vtadl_ext.ssim),
    Provider("pytorch-msssim", pytorch_msssim_ssim, package="pytorch_msssim"),
    Provider("pytorch-msssim compiled", pytorch_msssim_ssim, compile=True, package="pytorch_msssim"),
)
PROVIDERS = (
    *SWEPT,
    Provider("torchmetrics", torchmetrics_ssim, package="torchmetrics"),
    Provider("kornia", kornia_ssim, package="kornia"),
    Provider("scikit-image", scikit_image_ssim, modes=("forward",), devices=("cpu",), package="skimage"),
    Provider("fused-ssim", fused_ssim, package="fused_ssim", **_ONE_GRADIENT),
    Provider("fussim", fussim_ssim, package="fussim", **_ONE_GRADIENT),
)
# The remaining libraries take seconds for an HD frame.
FOR_LARGE_IMAGES = tuple(p for p in PROVIDERS if p.name not in ("pytorch-msssim", "torchmetrics"))


def cases() -> list[Case]:
    return [
        _case("images", 8, 3, 512, 512, modes=(FORWARD, GRADIENTS)),
        _case("one image", 1, 3, 256, 256, level="quick"),
        _case("one small image", 1, 1, 64, 64),
        _case("HD frame", 1, 3, 1080, 1920, providers=FOR_LARGE_IMAGES),
        _case("HD frames", 5, 5, 1080, 1920, providers=FOR_LARGE_IMAGES, devices=("cuda",)),
        *_sweeps(),
        _case("smoke", 1, 2, 16, 19, modes=(FORWARD, FIRST_GRADIENT, GRADIENTS), level="smoke"),
    ]


def _sweeps() -> Iterator[Case]:
    options: dict[str, Any] = {"providers": SWEPT, "modes": (FIRST_GRADIENT,)}
    base = {_SIDE: 512}
    points = sweeps.around(base, {_SIDE: (64, 256, 1024)})
    for point in (*points, *sweeps.around_types_and_threads(base)):
        side = point.sizes[_SIDE]
        yield _case(point.name, 1, 3, side, side, **options, **point.options)


def _case(name: str, *shape: int, **options: Any) -> Case:
    modes = {"modes": (FORWARD, FIRST_GRADIENT), "providers": PROVIDERS}
    return Case(
        name,
        " x ".join(map(str, shape)),
        partial(image_pair, *shape),
        vtadl_ext.reference.ssim,
        flops=partial(flops, torch.Size(shape).numel()),
        **(modes | options),
    )


def image_pair(*shape: int) -> tuple[Tensor, Tensor]:
    """An image of noise, and the same image with more noise."""
    x = torch.rand(shape)
    return x, (x + 0.1 * torch.randn(shape)).clamp(0, 1)


def flops(pixels: int, mode: Mode) -> float:
    """The operations of the separable window over four statistics, and over the maps of the gradients."""
    maps = {"forward": 4, "first gradient": 4 + 3, "gradients": 4 + 4}[mode.name]
    return pixels * maps * 2 * _TAPS * 2
