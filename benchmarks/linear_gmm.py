"""`linear_gmm_nll` beside a linear layer followed by a likelihood of its output."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import vtadl_ext
from benchmarks import gmm, sweeps
from benchmarks.case import OWN, Case, Function, Mode, Provider

# The samples that a head is trained on get no gradient.
GRADIENTS = Mode("gradients", slice(1, None))


def linear_then(nll: Function, components: int) -> Function:
    """The likelihood of whole mixtures, each parameter contiguous, as `MixtureHead` makes them."""

    def linear_nll(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        means = components * x.shape[-1]
        rows = (components, means, means)
        logits, mu, scale = (
            F.linear(h, *some) for some in zip(weight.split(rows), bias.split(rows), strict=True)
        )
        return nll(x, logits, mu.unflatten(-1, (components, -1)), scale.unflatten(-1, (components, -1)))

    return linear_nll


def providers(components: int) -> tuple[Provider, ...]:
    eager = linear_then(vtadl_ext.reference.gmm_nll, components)
    return (
        Provider(OWN, partial(vtadl_ext.linear_gmm_nll, num_components=components)),
        Provider("Linear + gmm_nll", linear_then(vtadl_ext.gmm_nll, components)),
        Provider("Linear + eager", eager),
        Provider("Linear + compiled", eager, compile=True),
        Provider("Linear + MixtureSameFamily", linear_then(gmm.mixture_same_family, components)),
    )


def cases() -> list[Case]:
    return [
        _case("wide head", 2048, 150, 128, 128),
        _case("narrow head", 2048, 30, 128, 128, level="quick"),
        _case("wide features", 2048, 30, 512, 512),
        _case("world model", 65536, 5, 1, 64),
        *_sweeps(),
        _case("smoke", 6, 3, 4, 5, level="smoke"),
    ]


def _sweeps() -> Iterator[Case]:
    for point in sweeps.around({"N": 2048, "K": 32}, {"N": (512, 4096), "K": (8, 128)}):
        samples, components = point.sizes.values()
        yield _case(point.name, samples, components, 64, 64, **point.options)


def _case(name: str, samples: int, components: int, features: int, width: int, **options: Any) -> Case:
    rows = components * (1 + 2 * features)

    def build() -> tuple[Tensor, ...]:
        weight = 0.3 * width**-0.5 * torch.randn(rows, width)
        return torch.randn(samples, features), torch.randn(samples, width), weight, torch.zeros(rows)

    return Case(
        name,
        " x ".join(map(str, (samples, components, features, width))),
        build,
        gmm.in_chunks(
            partial(vtadl_ext.reference.linear_gmm_nll, num_components=components),
            samples * components * features,
        ),
        providers(components),
        flops=lambda _: 6.0 * samples * rows * width,  # of the products, which are nearly all operations
        modes=(GRADIENTS,),
        **options,
    )
