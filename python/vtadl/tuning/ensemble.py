"""Ensemble selection: the weights of experts by what their sum finds."""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

_ROUNDS = 5
_MAX_BAGS = 10

Quality = Callable[[Tensor], float]


def select_bagged_ensemble(scores: Tensor, quality: Quality) -> Tensor:
    """The mean of the weights [E] that :func:`select_ensemble` finds in halves of the experts.

    A single selection trusts small differences of quality; the mean over bags does not (Caruana et al.,
    "Ensemble selection from libraries of models", ICML 2004). Experts that win no bag get no weight.

    Args:
        scores: Scores of the same windows by each expert, in comparable units [E, ...].
        quality: How good a sum of scores [...] is.
    """
    count = len(scores)
    halves = list(combinations(range(count), max(min(2, count), count // 2)))
    order = torch.randperm(len(halves), generator=torch.Generator().manual_seed(0))[:_MAX_BAGS]
    weights = torch.zeros(count)
    for bag in (list(halves[index]) for index in order):
        weights[bag] += select_ensemble(scores[bag], quality) / len(order)
    return weights


def select_ensemble(scores: Tensor, quality: Quality, rounds: int = _ROUNDS) -> Tensor:
    """Chooses the weights [E] of experts greedily (Caruana et al., 2004).

    The ensemble starts from the best expert. Each round adds the expert, which may be in it already, whose
    addition makes the sum of scores best. The result is the best ensemble of all rounds: the fraction of the
    additions that each expert got. Arguments are those of :func:`select_bagged_ensemble`.
    """
    counts, total = torch.zeros(len(scores)), torch.zeros_like(scores[0])
    best, best_quality = counts, -torch.inf
    for _ in range(rounds):
        qualities = [quality(total + own) for own in scores]
        index = max(range(len(scores)), key=qualities.__getitem__)
        total, counts = total + scores[index], counts.clone()
        counts[index] += 1
        if qualities[index] > best_quality:
            best, best_quality = counts, qualities[index]
    return best / best.sum()
