"""The curves behind the figures, with as many points as a picture can show."""

from typing import NamedTuple

import numpy as np

from vtadl.metrics.figures import Array, running_share

POINTS = 400


class Curve(NamedTuple):
    """Points of a curve from the strictest threshold to none; between them it is linear."""

    x: list[float]
    y: list[float]


def roc(negatives: Array, positives: Array) -> Curve:
    """False-positive and true-positive rate of counts [M] from the largest score down.

    With the shares of regions instead of positives it is the PRO curve, whose area up to 0.3 gives AUPRO.
    """
    return _thin(_from_zero(running_share(negatives)), _from_zero(running_share(positives)))


def precision_recall(negatives: Array, positives: Array) -> Curve:
    """Recall and precision of counts [M] from the largest score down."""
    hits = positives.cumsum()
    return _thin(running_share(positives), hits / np.maximum(hits + negatives.cumsum(), 1e-300))


def _from_zero(values: Array) -> Array:
    return np.concatenate([[0.0], values])


def _thin(x: Array, y: Array) -> Curve:
    """Points at even steps along the curve."""
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    chosen = np.unique(np.searchsorted(length, np.linspace(0, length[-1], POINTS)).clip(max=len(x) - 1))
    return Curve(x[chosen].tolist(), y[chosen].tolist())
