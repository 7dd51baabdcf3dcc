"""The network of VT-ADL, with the operators of vtadl_ext and with the alternatives to them."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from copy import deepcopy
from functools import cache
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import vtadl_ext
from benchmarks.case import OWN, Case, Function, Mode, Provider
from benchmarks.compilation import compiled
from vtadl.density import ExpertSettings
from vtadl.lightning_module import AnomalyDetector

# The networks have no noise, because it would differ in float64.
TINY = {
    "image_size": 16,
    "patch_size": 4,
    "width": 8,
    "depth": 1,
    "noise_std": 0,
    "features": 4,
    "gated": True,
}
SMALL = {"image_size": 128, "patch_size": 8, "noise_std": 0, "gated": True}
WIDE = {
    "likelihood": "paper",
    "image_size": 128,
    "patch_size": 16,
    "width": 256,
    "components": 150,
    "noise_std": 0,
}
PAPER = {
    "likelihood": "paper",
    "image_size": 512,
    "patch_size": 64,
    "width": 512,
    "depth": 6,
    "heads": 8,
    "mlp_width": 1024,
    "noise_std": 0,
    "bottleneck": 512,
    "decoder_channels": 256,
    "components": 150,
}

Sizes = tuple[tuple[str, Any], ...]  # settings of a network, as the key of a cache


def as_key(sizes: Mapping[str, Any]) -> Sizes:
    return tuple(sizes.items())


@cache
def detector(sizes: Sizes, dtype: torch.dtype, device: torch.device) -> AnomalyDetector:
    """A detector of the given dtype and device."""
    return deepcopy(_fitted(sizes)).to(device, dtype)


@cache
def _fitted(sizes: Sizes) -> AnomalyDetector:
    """A detector whose dictionary, if it has one, is fitted to noise."""
    torch.manual_seed(0)
    module = AnomalyDetector.from_settings(**dict(sizes))
    network = module.network
    if network.likelihood == "dictionary":
        images = torch.rand(16, 3, *network.image_size)
        network.dictionary.fit(images, ExpertSettings("pixels", components=5))
        network.open_gate()
    return module


# The places where the detector's parts call the operators.
_CALLS = (
    "vtadl.density.mixture.gmm_nll",
    "vtadl_ext.mixture_head.linear_gmm_nll",
    "vtadl.model.loss.reconstruction_loss",
    "vtadl.scoring.scorer.ssim",
)


class _CompiledReferences:
    """The references of the operators, compiled; the rest of the network is the same for all providers."""

    def __init__(self) -> None:
        for call in _CALLS:
            name = call.rpartition(".")[2]
            setattr(self, name, compiled(getattr(vtadl_ext.reference, name)))


def network_case(
    name: str,
    images: tuple[int, ...],
    function: Function,
    mode: Mode,
    further_tensors: Callable[[Tensor], Iterable[Tensor]] = lambda images: (),
    **options: Any,
) -> Case:
    """A case of a function of a detector and of images [B, 3, H, W], in one mode.

    The providers are the operators of vtadl_ext, the references, and the compiled references.
    """

    def build() -> tuple[Tensor, ...]:
        batch = torch.rand(images)
        return (batch, *further_tensors(batch))

    def flops(mode: Mode) -> float:
        plain = Mode(mode.name, mode.differentiated)
        leaves = plain.leaves([tensor.to("meta") for tensor in build()])
        return _count_flops(lambda: plain(eager.function, leaves))

    eager = Provider("eager", _with_operators(function, lambda: vtadl_ext.reference))
    return Case(
        name,
        " x ".join(map(str, images)),
        build,
        eager.function,
        (
            Provider(OWN, _with_operators(function, lambda: vtadl_ext)),
            eager,
            Provider("compiled", _with_operators(function, _CompiledReferences)),
        ),
        flops=flops,
        modes=(mode,),
        images=images[0],
        **options,
    )


def _with_operators(function: Function, operators: Callable[[], Any]) -> Function:
    """The function, with the calls of vtadl_ext's operators replaced by those of the given library."""
    library = cache(operators)

    def replaced(*tensors: Tensor) -> Tensor:
        with ExitStack() as stack:
            for call in _CALLS:
                stack.enter_context(mock.patch(call, getattr(library(), call.rpartition(".")[2])))
            return function(*tensors)

    return replaced


def _count_flops(call: Callable[[], object]) -> float:
    """The operations of the matrix products and the convolutions in a call; others are not counted."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
