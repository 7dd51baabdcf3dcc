"""Ensemble selection: the weights of experts by what their sum finds."""

from collections.abc import Callable

import torch
from torch import Tensor

_ROUNDS = 6


def select_ensemble(scores: Tensor, quality: Callable[[Tensor], float], rounds: int = _ROUNDS) -> Tensor:
    """Chooses the weights [E] of experts greedily (Caruana et al., "Ensemble selection", ICML 2004).

    The ensemble starts from the best expert. Each round adds the expert, which may be in it already, whose
    addition makes the sum of scores best. The result is the best ensemble of all rounds.

    Args:
        scores: Scores of the same windows by each expert, in comparable units [E, ...].
        quality: How good a sum of scores [...] is.
        rounds: Largest number of additions.

    Returns:
        The fraction of the additions that each expert got.
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
