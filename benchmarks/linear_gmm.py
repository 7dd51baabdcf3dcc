"""`linear_gmm_nll` against a linear layer and what computes the likelihood of its output."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import vtadl_ext
from benchmarks.gmm import mixture_same_family
from benchmarks.measure import Case, Function, forward_backward


def head(
    x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, components: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The whole mixtures, each parameter contiguous, as `MixtureHead` makes them."""
    means = components * x.shape[-1]
    rows = (components, means, means)
    logits, mu, scale = (
        F.linear(h, *some) for some in zip(weight.split(rows), bias.split(rows), strict=True)
    )
    return logits, mu.unflatten(-1, (components, -1)), scale.unflatten(-1, (components, -1))


def linear_then(nll: Function, components: int) -> Function:
    def linear_nll(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return nll(x, *head(x, h, weight, bias, components))

    return linear_nll


def providers(components: int) -> dict[str, Function]:
    reference = linear_then(vtadl_ext.reference.gmm_nll, components)
    return {
        "vtadl_ext": partial(vtadl_ext.linear_gmm_nll, num_components=components),
        "Linear + gmm_nll": linear_then(vtadl_ext.gmm_nll, components),
        "Linear + eager": reference,
        "Linear + compiled": torch.compile(reference, dynamic=False),
        "Linear + MixtureSameFamily": linear_then(mixture_same_family, components),
    }


def cases(device: torch.device) -> list[Case]:
    def case(
        name: str,
        samples: int,
        components: int,
        features: int,
        width: int,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        rows = components * (1 + 2 * features)
        weight = 0.3 * width**-0.5 * torch.randn(rows, width)
        tensors = (torch.randn(samples, features), torch.randn(samples, width), weight, torch.zeros(rows))
        return Case(
            f"{name}: x {[samples, features]}, h {[samples, width]}, K {components}",
            tuple(tensor.to(device, dtype) for tensor in tensors),
            partial(vtadl_ext.reference.linear_gmm_nll, num_components=components),
            providers(components),
            modes=(forward_backward,),
        )

    return [
        case("wide head", 2048, 150, 128, 128),
        case("narrow head", 2048, 30, 128, 128),
        case("wide features", 2048, 30, 512, 512),
        case("world model", 65536, 5, 1, 64),
    ]
