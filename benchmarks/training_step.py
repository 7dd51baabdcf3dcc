"""A training step of VT-ADL with our operators, and with what it would take without them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from functools import cache, partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

import vtadl_ext
from benchmarks.case import GRADIENTS, OWN, Case, Function, Mode, Provider
from benchmarks.compilation import compiled
from vtadl.model import VTADL, DictionarySettings, VTADLLoss

# Without noise, which would be other noise in float64.
_TINY = {"image_size": 16, "patch_size": 4, "width": 8, "depth": 1, "noise_std": 0, "features": 4}
_SMALL = {"image_size": 128, "patch_size": 8, "noise_std": 0}
_WIDE = {
    "likelihood": "paper",
    "image_size": 128,
    "patch_size": 16,
    "width": 256,
    "components": 150,
    "noise_std": 0,
}
_PAPER = {
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


class TrainingStep(Mode):
    """The gradients of all parameters, and the optimiser's step along them."""

    def __init__(self) -> None:
        super().__init__("training step", slice(1, None))

    def leaves(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        leaves = super().leaves(tensors)
        # With a learning rate of 0 every step does the same work on the same numbers.
        self.optimizer = torch.optim.AdamW(leaves[self.differentiated], lr=0.0)
        return leaves

    def __call__(self, function: Function, leaves: list[Tensor]) -> list[Tensor]:
        value, *gradients = super().__call__(function, leaves)
        for leaf, gradient in zip(leaves[self.differentiated], gradients, strict=True):
            leaf.grad = gradient
        self.optimizer.step()
        return [value, *gradients]


def cases() -> list[Case]:
    return [
        _case("small", 8, _SMALL, level="quick"),
        _case("wide head", 4, _WIDE),
        _case("paper", 8, _PAPER, devices=("cuda",)),
        _case("smoke", 2, _TINY, level="smoke"),
    ]


def _case(name: str, batch: int, sizes: Mapping[str, Any], **options: Any) -> Case:
    side = sizes["image_size"]

    def build() -> tuple[Tensor, ...]:
        images = torch.rand(batch, 3, side, side)
        return (images, *(parameter.detach() for parameter in _trained(_base(tuple(sizes.items()))).values()))

    step = partial(_loss, tuple(sizes.items()))
    reference = _with_operators(step, lambda: vtadl_ext.reference)
    return Case(
        name,
        f"{batch} x 3 x {side} x {side}",
        build,
        reference,
        (
            Provider(OWN, _with_operators(step, lambda: vtadl_ext)),
            Provider("eager", reference),
            Provider("compiled", _with_operators(step, _CompiledReferences)),
        ),
        flops=lambda mode: _flops(reference, build()),
        modes=(TrainingStep(),),
        **options,
    )


class _CompiledReferences:
    """The operators alone: the rest of the network is the same for all."""

    def __init__(self) -> None:
        self.gmm_nll = compiled(vtadl_ext.reference.gmm_nll)
        self.linear_gmm_nll = compiled(vtadl_ext.reference.linear_gmm_nll)
        self.reconstruction_loss = compiled(vtadl_ext.reference.reconstruction_loss)


# Where the network's parts call the operators.
_CALLS = (
    "vtadl.model.mixture.gmm_nll",
    "vtadl_ext.mixture_head.linear_gmm_nll",
    "vtadl.model.loss.reconstruction_loss",
)


def _with_operators(step: Function, operators: Callable[[], Any]) -> Function:
    """The step with the operators of this library in the place of ours."""
    library = cache(operators)

    def replaced(*tensors: Tensor) -> Tensor:
        with ExitStack() as stack:
            for call in _CALLS:
                stack.enter_context(mock.patch(call, getattr(library(), call.rpartition(".")[2])))
            return step(*tensors)

    return replaced


def _loss(sizes: tuple[tuple[str, Any], ...], images: Tensor, *parameters: Tensor) -> Tensor:
    network = _network(sizes, images.dtype, images.device)
    prediction = functional_call(network, dict(zip(_trained(network), parameters, strict=True)), images)
    return VTADLLoss()(images, prediction).total


def _trained(network: VTADL) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


@cache
def _base(sizes: tuple[tuple[str, Any], ...]) -> VTADL:
    """A network whose dictionary, if it has one, is fitted to noise."""
    torch.manual_seed(0)
    network = VTADL(**dict(sizes))
    if network.likelihood == "dictionary":
        images = torch.rand(16, 3, *network.image_size)
        network.dictionary.describe(images, "pixels")
        network.dictionary.fit(network.dictionary.components_of(images), DictionarySettings())
        network.open_gate()
    return network


@cache
def _network(sizes: tuple[tuple[str, Any], ...], dtype: torch.dtype, device: torch.device) -> VTADL:
    return deepcopy(_base(sizes)).to(device, dtype)


def _flops(function: Function, tensors: Sequence[Tensor]) -> float:
    """Of the products of matrices and the convolutions, which are all that counts here."""
    with FlopCounterMode(display=False) as counter:
        function(*GRADIENTS.leaves([tensor.to("meta") for tensor in tensors])).backward()
    return counter.get_total_flops()
