"""A training step of VT-ADL, with the operators of vtadl_ext and with the alternatives to them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.case import Case, Function, Mode
from benchmarks.network import PAPER, SMALL, TINY, WIDE, Sizes, as_key, detector, network_case
from vtadl.model import VTADL, VTADLLoss


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
        _case("small", 8, SMALL, level="quick"),
        _case("wide head", 4, WIDE),
        _case("paper", 8, PAPER, devices=("cuda",)),
        _case("smoke", 2, TINY, level="smoke"),
        _case("smoke, predicted mixtures", 2, TINY | {"likelihood": "paper"}, level="smoke"),
    ]


def _case(name: str, batch: int, sizes: Mapping[str, Any], **options: Any) -> Case:
    side, key = sizes["image_size"], as_key(sizes)

    def parameters(images: Tensor) -> list[Tensor]:
        return [parameter.detach() for parameter in _trained(_network(key, images)).values()]

    loss = partial(_loss, key)
    return network_case(name, (batch, 3, side, side), loss, TrainingStep(), parameters, **options)


def _loss(sizes: Sizes, images: Tensor, *parameters: Tensor) -> Tensor:
    step = _Step(_network(sizes, images))
    return cast(Tensor, functional_call(step, dict(zip(_trained(step), parameters, strict=True)), images))


class _Step(nn.Module):
    """The loss of a network, as one module, because the loss also uses parameters of the network."""

    def __init__(self, network: VTADL) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return VTADLLoss()(images, self.network(images)).total


def _network(sizes: Sizes, images: Tensor) -> VTADL:
    """The network in training mode, which changes the decoder's normalisation alone."""
    network: VTADL = detector(sizes, images.dtype, images.device).network
    return network.train()


def _trained(network: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
