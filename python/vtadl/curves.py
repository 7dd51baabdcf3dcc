"""Curves of detection: what is found, against what is wrongly found, as the threshold falls."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label, regionprops

Array = NDArray[np.float64]
BINS = 4096  # of normalised pixel scores


class Curve(NamedTuple):
    """Points from the highest threshold to the lowest; empty where the data do not define it."""

    x: Array
    y: Array


class Counts(NamedTuple):
    """Normal and anomalous ones at each distinct score, from the largest down: each [M]."""

    negatives: Array
    positives: Array


def count(scores: Array, labels: NDArray[np.bool_]) -> Counts:
    """Counts scores [N] with labels [N]; equal scores are one threshold."""
    values, index = np.unique(-scores, return_inverse=True)
    negatives, positives = (
        np.bincount(index, labels == kind, len(values)).astype(np.float64) for kind in (False, True)
    )
    return Counts(negatives, positives)


def roc(counts: Counts) -> Curve:
    """False-positive rate and true-positive rate."""
    return _curve(_share(counts.negatives), _share(counts.positives))


def precision_recall(counts: Counts) -> Curve:
    """Recall and precision."""
    hits = counts.positives.cumsum()
    found = hits > 0
    precision = hits[found] / (hits + counts.negatives.cumsum())[found]
    recall = _share(counts.positives)
    return Curve(recall[found], precision) if len(recall) else Curve(recall, recall)


def pro(negatives: Array, shares: Array) -> Curve:
    """False-positive rate of pixels and mean overlap with the regions of the ground truth."""
    return _curve(_share(negatives), _share(shares))


class PixelCounts:
    """Pixels of test images at each of 4096 normalised scores; memory that does not grow with the images."""

    def __init__(self) -> None:
        self.bins = np.zeros((3, BINS))  # normal and anomalous pixels, and shares of anomalous regions

    def update(self, normalised_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Takes in a map [H, W] and the ground truth [H, W]."""
        index = np.minimum((normalised_map * BINS).astype(np.int64), BINS - 1)
        shares = np.zeros(mask.shape)
        for region in regionprops(label(mask, connectivity=2)):
            shares[tuple(region.coords.T)] = 1 / region.area
        for row, weights in zip(self.bins, (~mask, mask, shares), strict=True):
            row += np.bincount(index.ravel(), weights.ravel().astype(np.float64), BINS)[::-1]

    @property
    def counts(self) -> Counts:
        return Counts(self.bins[0], self.bins[1])

    def pro(self) -> Curve:
        return pro(self.bins[0], self.bins[2])


def _share(values: Array) -> Array:
    total = values.sum()
    return values.cumsum() / total if total > 0 else np.empty(0)


def _curve(x: Array, y: Array) -> Curve:
    if len(x) == 0 or len(y) == 0:
        return Curve(np.empty(0), np.empty(0))
    return Curve(np.concatenate([[0.0], x]), np.concatenate([[0.0], y]))
