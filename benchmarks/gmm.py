"""`gmm_nll` beside other implementations of the same likelihood."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)
from torch.utils.checkpoint import checkpoint

import vtadl_ext
from benchmarks import sweeps
from benchmarks.case import FORWARD, GRADIENTS, OWN, Case, Function, Mode, Provider

# The float64 reference takes the samples in chunks of about so many elements N K D: fresh memory for more
# would take longer than the computation.
_REFERENCE_ELEMENTS = 1 << 20


def mixture_same_family(x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor) -> Tensor:
    components = Independent(Normal(mu, scale.exp(), validate_args=False), 1, validate_args=False)
    return _mixture_nll(x, logits, components)


def mixture_same_family_tril(x: Tensor, logits: Tensor, mu: Tensor, scale_tril: Tensor) -> Tensor:
    return _mixture_nll(x, logits, MultivariateNormal(mu, scale_tril=scale_tril, validate_args=False))


def _mixture_nll(x: Tensor, logits: Tensor, components: Distribution) -> Tensor:
    weights = Categorical(logits=logits, validate_args=False)
    return -MixtureSameFamily(weights, components, validate_args=False).log_prob(x).mean()


def keops(x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor) -> Tensor:
    """Serves a shared mixture."""
    import pykeops
    from pykeops.torch import LazyTensor

    pykeops.set_verbose(False)

    samples, means, inverse_stds = (
        LazyTensor(tensor.contiguous()) for tensor in (x[:, None], mu[None], (-scale).exp()[None])
    )
    log_weights = logits.log_softmax(-1) - scale.sum(-1) - 0.5 * mu.shape[-1] * math.log(2 * math.pi)
    squares = (((samples - means) * inverse_stds) ** 2).sum(-1)
    joint = LazyTensor(log_weights[None, :, None].contiguous()) - 0.5 * squares
    return -joint.logsumexp(dim=1).mean()


def scikit_learn(x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor) -> Tensor:
    """Serves a shared mixture, without gradients."""
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(len(logits), covariance_type="diag")
    mixture.weights_, mixture.means_ = logits.softmax(-1).numpy(), mu.numpy()
    mixture.covariances_, mixture.precisions_cholesky_ = (2 * scale).exp().numpy(), (-scale).exp().numpy()
    return torch.as_tensor(-mixture.score_samples(x.numpy()).mean())


def tril(function: Function) -> Function:
    """The function with full covariances instead of diagonal ones."""

    def with_scale_tril(x: Tensor, logits: Tensor, mu: Tensor, scale_tril: Tensor) -> Tensor:
        return function(x, logits, mu, scale_tril=scale_tril)

    return with_scale_tril


SWEPT = (
    Provider(OWN, vtadl_ext.gmm_nll),
    Provider("eager", vtadl_ext.reference.gmm_nll),
    Provider("compiled", vtadl_ext.reference.gmm_nll, compile=True),
)
DIAGONAL = (*SWEPT, Provider("MixtureSameFamily", mixture_same_family))
TRIANGULAR = (
    Provider(OWN, tril(vtadl_ext.gmm_nll)),
    Provider("eager", tril(vtadl_ext.reference.gmm_nll)),
    Provider("compiled", tril(vtadl_ext.reference.gmm_nll), compile=True),
    Provider("MixtureSameFamily", mixture_same_family_tril),
)
SHARED = (
    *SWEPT,
    # Its gradients take as long as those of the eager reference: twelve seconds for each call.
    Provider("MixtureSameFamily", mixture_same_family, modes=("forward",)),
    Provider("KeOps", keops, package="pykeops"),
    Provider("scikit-learn", scikit_learn, modes=("forward",), devices=("cpu",), package="sklearn"),
)


def cases() -> list[Case]:
    return [
        _per_sample("wide head", 512, 150, 512),
        _per_sample("wide head, bfloat16", 512, 150, 512, dtype=torch.bfloat16),
        _per_sample("wide head, 2048 patches", 2048, 150, 512, devices=("cuda",)),
        _per_sample("narrow head", 512, 10, 512, level="quick"),
        _per_sample("world model", 65536, 5, 1, level="quick"),
        _per_sample("handwriting", 65536, 20, 2),
        _per_sample("handwriting, full covariance", 65536, 20, 2, full_covariance=True),
        _case("shared mixture", (16384, 64), (64,), (64, 64), providers=SHARED),
        _case("mixture per position", (16, 256, 64), (16, 256, 32), (256, 32, 64)),
        _case("gated dictionary", (16, 256, 64), (16, 256, 32), (32, 64)),
        _case("gated dictionary, K = 100", (16, 256, 64), (16, 256, 100), (100, 64)),
        _per_sample("tiny", 8, 4, 2),
        *_sweeps(),
        _per_sample("smoke", 6, 3, 4, level="smoke"),
        _per_sample("smoke, full covariance", 6, 3, 2, full_covariance=True, level="smoke"),
        # KeOps compiles for seconds, and again for each gradient.
        _case("smoke, shared", (6, 4), (3,), (3, 4), providers=SHARED, modes=(FORWARD,), level="smoke"),
        _case("smoke, per position", (3, 5, 4), (3, 5, 2), (5, 2, 4), level="smoke"),
    ]


def _sweeps() -> Iterator[Case]:
    options: dict[str, Any] = {"providers": SWEPT, "modes": (GRADIENTS,)}
    base = {"N": 1024, "K": 32, "D": 64}
    points = sweeps.around(base, {"N": (128, 4096), "K": (8, 256), "D": (1, 512)})
    for point in (*points, *sweeps.around_types_and_threads(base)):
        samples, components, features = point.sizes.values()
        yield _per_sample(point.name, samples, components, features, **options, **point.options)


def _per_sample(name: str, samples: int, components: int, features: int, **options: Any) -> Case:
    rows = (samples, components)
    return _case(name, (samples, features), rows, (*rows, features), **options)


def _case(
    name: str,
    x: tuple[int, ...],
    logits: tuple[int, ...],
    mu: tuple[int, ...],
    *,
    full_covariance: bool = False,
    providers: tuple[Provider, ...] | None = None,
    **options: Any,
) -> Case:
    components, features = mu[-2:]

    def build() -> tuple[Tensor, ...]:
        scale = 0.1 * torch.randn((*mu, features) if full_covariance else mu)
        if full_covariance:
            scale = scale + torch.eye(features)
        return torch.randn(x), torch.randn(logits), torch.randn(mu), scale

    reference = vtadl_ext.reference.gmm_nll
    elements = math.prod(x[:-1]) * components * features
    return Case(
        name,
        " x ".join(map(str, (*x[:-1], components, features))),
        build,
        in_chunks(tril(reference) if full_covariance else reference, elements),
        providers or (TRIANGULAR if full_covariance else DIAGONAL),
        flops=partial(_flops, elements, features if full_covariance else 1),
        **options,
    )


def in_chunks(reference: Function, elements: int) -> Function:
    """The reference on some samples at a time; all tensors with as many rows as `x` are split."""

    def chunked(x: Tensor, *parameters: Tensor) -> Tensor:
        rows = max(1, len(x) * _REFERENCE_ELEMENTS // elements)
        chunks = x.split(rows)
        split = [
            parameter.split(rows) if len(parameter) == len(x) else [parameter] * len(chunks)
            for parameter in parameters
        ]
        means = [
            len(samples) / len(x) * checkpoint(reference, samples, *of_samples, use_reentrant=False)
            for samples, *of_samples in zip(chunks, *split, strict=True)
        ]
        return torch.stack(means).sum()

    return chunked


def _flops(elements: int, width: int, mode: Mode) -> float:
    """The operations of a call.

    Each element has a distance, its scaling, square and sum, and then the gradients of x, mu and scale.
    Exponentials are not counted. Full covariances scale by a row of a triangle, `width` / 2 multiply-adds.
    """
    forward = 3 + width
    return elements * (forward if mode.name == "forward" else 2 * forward + 2)
