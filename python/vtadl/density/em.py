"""Expectation maximisation of diagonal Gaussian mixtures, many at once."""

import math

import torch
from torch import Tensor

from vtadl.density.mixture import Mixture

_CHUNK = 2**22  # responsibilities held at once
_PRIOR_SAMPLES = 1.0  # weight of the prior variance of a component, in samples
_PRIOR_COUNT = 0.1  # samples added to each component's weight


def fit_mixtures(
    x: Tensor, components: int, min_std: float, steps: int = 10, generator: torch.Generator | None = None
) -> Mixture:
    """Fits one mixture of K components to each column of samples x [N, P, D].

    The means start from random samples. `min_std` is added in quadrature to every standard deviation, so that
    components explain samples within that distance of a normal one.

    Returns:
        Normalised logits [P, K], means and standard deviations [P, K, D].
    """
    count, columns, features = x.shape
    overall = x.var(0, correction=0)[:, None]  # [P, 1, D]
    prior = overall / components ** (2 / min(features, 10))  # each component covers a part of the space
    mu = _random_samples(x, components, generator)
    variance = prior.expand_as(mu)
    logits = x.new_full((columns, components), -math.log(components))
    for _ in range(steps):
        std = (variance + min_std**2).sqrt()
        weight, total, squares = _expectations(x, Mixture(logits, mu, std, scale_param="std"))
        mu = torch.where(weight > 1e-3, total / weight.clamp(min=1e-3), mu)
        scatter = (squares - 2 * mu * total + weight * mu.square()).clamp(min=0)
        variance = (scatter + _PRIOR_SAMPLES * prior) / (weight + _PRIOR_SAMPLES)
        logits = ((weight[..., 0] + _PRIOR_COUNT) / (count + _PRIOR_COUNT * components)).log()
    return Mixture(logits, mu, (variance + min_std**2).sqrt(), scale_param="std")


def _random_samples(x: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draws `count` samples [P, K, D] of each column, without repetition while there are enough."""
    order = torch.rand(x.shape[1], len(x), generator=generator).argsort(1).to(x.device)
    chosen = order[:, torch.arange(count) % len(x)]
    return x.transpose(0, 1).gather(1, chosen[..., None].expand(-1, -1, x.shape[2])).contiguous()


def _expectations(x: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the samples, weighted by responsibilities: of 1 [P, K, 1], of x and of x² [P, K, D]."""
    weight = x.new_zeros(*mixture.logits.shape, 1)
    total, squares = torch.zeros_like(mixture.mu), torch.zeros_like(mixture.mu)
    for chunk in x.split(max(1, _CHUNK // mixture.logits.numel())):
        responsibilities = mixture.responsibilities(chunk).permute(1, 2, 0)
        samples = chunk.transpose(0, 1)
        weight += responsibilities.sum(-1, keepdim=True)
        total += responsibilities @ samples
        squares += responsibilities @ samples.square()
    return weight, total, squares
