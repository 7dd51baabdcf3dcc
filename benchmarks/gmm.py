"""`gmm_nll` against PyTorch's ways to the same number."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import vtadl_ext
from benchmarks.measure import Case


def mixture_same_family(x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor) -> Tensor:
    components = Independent(Normal(mu, scale.exp(), validate_args=False), 1, validate_args=False)
    mixture = MixtureSameFamily(
        Categorical(logits=logits, validate_args=False), components, validate_args=False
    )
    return -mixture.log_prob(x).mean()


PROVIDERS: dict[str, Callable[..., Tensor]] = {
    "vtadl_ext": vtadl_ext.gmm_nll,
    "eager": vtadl_ext.reference.gmm_nll,
    "compiled": torch.compile(vtadl_ext.reference.gmm_nll),
    "MixtureSameFamily": mixture_same_family,
}


def cases(device: torch.device) -> list[Case]:
    """Samples, components and features; parameters for each sample or shared by all."""

    def case(name: str, samples: int, components: int, features: int, shared: bool = False) -> Case:
        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, device=device)

        rows = () if shared else (samples,)
        mu = draw(*rows, components, features)
        tensors = (draw(samples, features), draw(*rows, components), mu, 0.1 * torch.randn_like(mu))
        return Case(f"{name}: N={samples} K={components} D={features}", tensors, vtadl_ext.reference.gmm_nll)

    return [
        case("wide head", 512, 150, 512),
        case("narrow head", 512, 10, 512),
        case("world model", 65536, 5, 1),
        case("handwriting", 65536, 20, 2),
        case("shared mixture", 16384, 64, 64, shared=True),
        case("tiny", 8, 4, 2),
    ]
