"""ROC, precision-recall and per-region overlap curves, with as many points as a plot can show."""

from typing import NamedTuple

import numpy as np

from vtadl.metrics.functional import FloatArray, cumulative_fraction

MAX_POINTS = 400


class Curve(NamedTuple):
    """The points of a curve, from the highest threshold to the lowest; it is linear between them."""

    x: list[float]
    y: list[float]


def roc(negatives: FloatArray, positives: FloatArray) -> Curve:
    """Computes false-positive and true-positive rates from counts [M] in descending order of scores.

    With region weights instead of positives, the result is the PRO curve, whose area up to a false-positive
    rate of 0.3 is AUPRO.
    """
    return _thin_out(
        _prepend_zero(cumulative_fraction(negatives)), _prepend_zero(cumulative_fraction(positives))
    )


def precision_recall(negatives: FloatArray, positives: FloatArray) -> Curve:
    """Computes recall and precision from counts [M] in descending order of scores."""
    true_positives = positives.cumsum()
    predicted = true_positives + negatives.cumsum()
    return _thin_out(cumulative_fraction(positives), true_positives / np.maximum(predicted, 1e-300))


def _prepend_zero(values: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], values])


def _thin_out(x: FloatArray, y: FloatArray) -> Curve:
    """Selects points at even steps along the curve."""
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    steps = np.linspace(0, length[-1], MAX_POINTS)
    selected = np.unique(np.searchsorted(length, steps).clip(max=len(x) - 1))
    return Curve(x[selected].tolist(), y[selected].tolist())
