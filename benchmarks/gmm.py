"""`gmm_nll` against PyTorch's ways to the same number."""

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

import vtadl_ext
from benchmarks.measure import Case


def mixture_same_family(x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor) -> Tensor:
    components = Independent(Normal(mu, scale.exp(), validate_args=False), 1, validate_args=False)
    return _mixture_nll(x, logits, components)


def mixture_same_family_tril(x: Tensor, logits: Tensor, mu: Tensor, scale_tril: Tensor) -> Tensor:
    return _mixture_nll(x, logits, MultivariateNormal(mu, scale_tril=scale_tril, validate_args=False))


def _mixture_nll(x: Tensor, logits: Tensor, components: torch.distributions.Distribution) -> Tensor:
    weights = Categorical(logits=logits, validate_args=False)
    return -MixtureSameFamily(weights, components, validate_args=False).log_prob(x).mean()


def gmm_nll_tril(x: Tensor, logits: Tensor, mu: Tensor, scale_tril: Tensor) -> Tensor:
    return vtadl_ext.gmm_nll(x, logits, mu, scale_tril=scale_tril)


def reference_tril(x: Tensor, logits: Tensor, mu: Tensor, scale_tril: Tensor) -> Tensor:
    return vtadl_ext.reference.gmm_nll(x, logits, mu, scale_tril=scale_tril)


DIAGONAL = {
    "vtadl_ext": vtadl_ext.gmm_nll,
    "eager": vtadl_ext.reference.gmm_nll,
    "compiled": torch.compile(vtadl_ext.reference.gmm_nll, dynamic=False),
    "MixtureSameFamily": mixture_same_family,
}
TRIANGULAR = {
    "vtadl_ext": gmm_nll_tril,
    "eager": reference_tril,
    "compiled": torch.compile(reference_tril, dynamic=False),
    "MixtureSameFamily": mixture_same_family_tril,
}


def cases(device: torch.device) -> list[Case]:
    def case(
        name: str,
        x: tuple[int, ...],
        logits: tuple[int, ...],
        mu: tuple[int, ...],
        *,
        tril: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        scale = 0.1 * torch.randn(*mu, mu[-1]) + torch.eye(mu[-1]) if tril else 0.1 * torch.randn(mu)
        tensors = (torch.randn(x), torch.randn(logits), torch.randn(mu), scale)
        return Case(
            f"{name}: x {list(x)}, mu {list(mu)}",
            tuple(tensor.to(device, dtype) for tensor in tensors),
            reference_tril if tril else vtadl_ext.reference.gmm_nll,
            TRIANGULAR if tril else DIAGONAL,
        )

    def per_sample(name: str, samples: int, components: int, features: int, **options: object) -> Case:
        rows = (samples, components)
        return case(name, (samples, features), rows, (*rows, features), **options)

    return [
        per_sample("wide head", 512, 150, 512),
        per_sample("wide head, bfloat16", 512, 150, 512, dtype=torch.bfloat16),
        per_sample("narrow head", 512, 10, 512),
        per_sample("world model", 65536, 5, 1),
        per_sample("handwriting", 65536, 20, 2),
        per_sample("handwriting, full covariance", 65536, 20, 2, tril=True),
        case("shared mixture", (65536, 64), (64,), (64, 64)),
        case("mixture per position", (64, 256, 64), (64, 256, 32), (256, 32, 64)),
        case("gated dictionary", (64, 256, 64), (64, 256, 32), (32, 64)),
        case("gated dictionary", (64, 256, 64), (64, 256, 100), (100, 64)),
        per_sample("tiny", 8, 4, 2),
    ]
