"""The scores and maps of VT-ADL, with the operators of vtadl_ext and with the alternatives to them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from benchmarks.case import FORWARD, Case
from benchmarks.network import PAPER, SMALL, TINY, WIDE, Sizes, as_key, detector, network_case
from vtadl.scoring.scorer import TERMS


def cases() -> list[Case]:
    return [
        _case("small", 16, SMALL, level="quick"),
        _case("wide head", 16, WIDE | {"terms": TERMS}),
        _case("paper", 16, PAPER | {"terms": TERMS}, devices=("cuda",)),
        _case("smoke", 2, TINY | {"terms": TERMS}, level="smoke"),
    ]


def _case(name: str, batch: int, sizes: Mapping[str, Any], **options: Any) -> Case:
    side = sizes["image_size"]
    return network_case(name, (batch, 3, side, side), partial(_scores, as_key(sizes)), FORWARD, **options)


def _scores(sizes: Sizes, images: Tensor) -> Tensor:
    """The scores of all images and all pixels, as one number to compare."""
    scores = detector(sizes, images.dtype, images.device).eval()(images)
    return scores.image.square().sum() + scores.map.square().mean()
