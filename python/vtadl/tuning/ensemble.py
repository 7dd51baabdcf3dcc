"""Ensemble selection: the weights of experts by what their sum finds."""

from collections.abc import Callable

import torch
from torch import Tensor

_ROUNDS = 5
_BAGS = 8

Quality = Callable[[Tensor, Tensor], float]  # of the summed scores [2, M, ...] of some of M takes


def select_bagged_ensemble(scores: Tensor, quality: Quality) -> Tensor:
    """The mean of the weights [E] that :func:`select_ensemble` finds in random halves of the takes.

    A single selection trusts differences that other takes would not show; the mean over bags does not
    (Caruana et al., "Ensemble selection from libraries of models", ICML 2004).

    Args:
        scores: Scores of normal and of anomalous takes by each expert, in comparable units [E, 2, M, ...].
        quality: How good the sums of scores are for the takes of given indices.
    """
    count, generator = scores.shape[2], torch.Generator().manual_seed(0)
    weights = torch.zeros(len(scores))
    for _ in range(_BAGS):
        takes = torch.randperm(count, generator=generator)[: -(-count // 2)]
        weights += select_ensemble(scores, quality, takes) / _BAGS
    return weights


def select_ensemble(
    scores: Tensor, quality: Quality, takes: Tensor | None = None, rounds: int = _ROUNDS
) -> Tensor:
    """Chooses the weights [E] of experts greedily (Caruana et al., 2004), by some takes or by all.

    The ensemble starts from the best expert. Each round adds the expert, which may be in it already, whose
    addition makes the sum of scores best. The result is the best ensemble of all rounds: the fraction of the
    additions that each expert got. Other arguments are those of :func:`select_bagged_ensemble`.
    """
    takes = torch.arange(scores.shape[2]) if takes is None else takes
    scores = scores[:, :, takes.to(scores.device)]
    counts, total = torch.zeros(len(scores)), torch.zeros_like(scores[0])
    best, best_quality = counts, -torch.inf
    for _ in range(rounds):
        qualities = [quality(total + own, takes) for own in scores]
        index = max(range(len(scores)), key=qualities.__getitem__)
        total, counts = total + scores[index], counts.clone()
        counts[index] += 1
        if qualities[index] > best_quality:
            best, best_quality = counts, qualities[index]
    return best / best.sum()
