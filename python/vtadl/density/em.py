"""Expectation maximisation of diagonal Gaussian mixtures, many at once."""

import math

import torch
from torch import Tensor

from vtadl.density.mixture import Mixture

_CHUNK = 2**22  # responsibilities held at once
_PRIOR_SAMPLES = 1.0  # how many samples of the overall variance each component is given


def fit_mixtures(
    x: Tensor, components: int, min_std: float, steps: int = 10, generator: torch.Generator | None = None
) -> Mixture:
    """Fits one mixture of K components to each column of samples x [N, P, D].

    The means start from random samples. `min_std` is added in quadrature to every standard deviation:
    the components explain what lies within it of a normal sample.

    Returns:
        Logits [P, K], which are log-weights, means and standard deviations [P, K, D].
    """
    count, columns, features = x.shape
    overall = x.var(0, correction=0)[:, None]  # [P, 1, D]
    narrowed = overall / components ** (2 / min(features, 10))  # each component has a part of the space
    mu = _random_samples(x, components, generator)
    variance = narrowed.expand_as(mu)
    logits = x.new_full((columns, components), -math.log(components))
    for _ in range(steps):
        std = (variance + min_std**2).sqrt()
        weight, total, squares = _moments(x, Mixture(logits, mu, std, scale_param="std"))
        mu = torch.where(weight > 1e-3, total / weight.clamp(min=1e-3), mu)
        scatter = (squares - 2 * mu * total + weight * mu.square()).clamp(min=0)
        variance = (scatter + _PRIOR_SAMPLES * narrowed) / (weight + _PRIOR_SAMPLES)
        logits = ((weight[..., 0] + 0.1) / (count + 0.1 * components)).log()
    return Mixture(logits, mu, (variance + min_std**2).sqrt(), scale_param="std")


def _random_samples(x: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """`count` samples of each column, different ones while there are enough: [P, K, D]."""
    order = torch.rand(x.shape[1], len(x), generator=generator).argsort(1).to(x.device)
    chosen = order[:, torch.arange(count) % len(x)]
    return x.transpose(0, 1).gather(1, chosen[..., None].expand(-1, -1, x.shape[2])).contiguous()


def _moments(x: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the samples, weighted by responsibility: of 1 [P, K, 1], of x and of x² [P, K, D]."""
    weight = x.new_zeros(*mixture.logits.shape, 1)
    total, squares = torch.zeros_like(mixture.mu), torch.zeros_like(mixture.mu)
    for chunk in x.split(max(1, _CHUNK // mixture.logits.numel())):
        shares = mixture.responsibilities(chunk).permute(1, 2, 0)
        samples = chunk.transpose(0, 1)
        weight += shares.sum(-1, keepdim=True)
        total += shares @ samples
        squares += shares @ samples.square()
    return weight, total, squares
