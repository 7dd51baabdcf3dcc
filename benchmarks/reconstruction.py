"""`reconstruction_loss` beside the sum of its terms, each computed by a library."""

from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

import vtadl_ext
from benchmarks import ssim
from benchmarks.case import FIRST_GRADIENT, FORWARD, OWN, Case, Function, Provider

_MSE, _SSIM = 5.0, 0.5


def fused(x: Tensor, y: Tensor) -> Tensor:
    return vtadl_ext.reconstruction_loss(x, y, mse=_MSE, ssim=_SSIM)


def reference(x: Tensor, y: Tensor) -> Tensor:
    return cast(Tensor, vtadl_ext.reference.reconstruction_loss(x, y, mse=_MSE, ssim=_SSIM))


def sum_of_terms(ssim_function: Function, x: Tensor, y: Tensor) -> Tensor:
    return _MSE * F.mse_loss(x, y) + _SSIM * (1 - ssim_function(x, y))


PROVIDERS = (
    Provider(OWN, fused),
    *(
        Provider(
            f"mse + {peer.name}", partial(sum_of_terms, peer.function), peer.compile, package=peer.package
        )
        for peer in ssim.PROVIDERS
        if peer.name in ("pytorch-msssim", "pytorch-msssim compiled", "torchmetrics", "kornia")
    ),
)


def cases() -> list[Case]:
    return [
        _case("images of 256 pixels", 8, 3, 256, 256),
        _case("images of 128 pixels", 8, 3, 128, 128, level="quick"),
        _case("smoke", 1, 2, 16, 19, level="smoke"),
    ]


def _case(name: str, *shape: int, **options: Any) -> Case:
    return Case(
        name,
        " x ".join(map(str, shape)),
        partial(ssim.image_pair, *shape),
        reference,
        PROVIDERS,
        flops=partial(ssim.flops, torch.Size(shape).numel()),
        modes=(FORWARD, FIRST_GRADIENT),
        **options,
    )
