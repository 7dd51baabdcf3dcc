"""VT-ADL's scores and maps of images with our operators, and with what they would take without them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import FORWARD, Case, Function
from benchmarks.network import PAPER, SMALL, TINY, WIDE, Sizes, as_key, count_flops, detector, providers


def cases() -> list[Case]:
    return [
        _case("small", 16, SMALL, level="quick"),
        _case("wide head", 16, WIDE),
        _case("paper", 16, PAPER, devices=("cuda",)),
        _case("smoke", 2, TINY, level="smoke"),
    ]


def _case(name: str, batch: int, sizes: Mapping[str, Any], **options: Any) -> Case:
    side = sizes["image_size"]

    def build() -> tuple[Tensor, ...]:
        return (torch.rand(batch, 3, side, side),)

    own, eager, compiled = providers(partial(_scores, as_key(sizes)))
    return Case(
        name,
        f"{batch} x 3 x {side} x {side}",
        build,
        eager.function,
        (own, eager, compiled),
        flops=lambda mode: _flops(eager.function, build()),
        modes=(FORWARD,),
        images=batch,
        **options,
    )


def _scores(sizes: Sizes, images: Tensor) -> Tensor:
    """Of all images and all pixels, as one number to compare."""
    scores = detector(sizes, images.dtype, images.device).eval()(images)
    return scores.image.square().sum() + scores.map.square().mean()


def _flops(function: Function, tensors: Sequence[Tensor]) -> float:
    with torch.no_grad():
        return count_flops(lambda: function(*(tensor.to("meta") for tensor in tensors)))
