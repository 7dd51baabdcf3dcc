"""Histograms of pixel scores, whose memory does not grow with the number of pixels.

Scores are rounded to 16 significant bits: the bin of a score is the upper 24 bits of its float32 (the sign,
the exponent and 15 bits of the fraction). Two scores that differ by more than 2^-15 of their size therefore
keep their order, whatever their range, and histograms of different batches and processes can be added.
Metrics are exact for the rounded scores. AUROC, for example, differs from that of the unrounded scores by at
most half the fraction of pairs (normal pixel, anomalous pixel) that fall into one bin.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label


class ScoreHistogram(NamedTuple):
    """The counts of each bin of scores; a bin without pixels has no row."""

    bins: NDArray[np.int32]  # [R] a larger bin holds larger scores
    negatives: NDArray[np.int64]  # [R] numbers of normal pixels
    positives: NDArray[np.int64]  # [R] numbers of anomalous pixels
    region_weights: NDArray[np.float64]  # [R] sums over anomalous pixels of 1 / area of their region


EMPTY_HISTOGRAM = ScoreHistogram(
    np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
)


def score_bins(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    """Returns the bins of scores [M]; they are in the order of the scores."""
    bits = (scores + np.float32(0)).view(np.int32)  # adding 0 makes -0 equal to 0
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 8


def score_histogram(scores: NDArray[np.float32], mask: NDArray[np.bool_]) -> ScoreHistogram:
    """Computes the histogram of one anomaly map [H, W] with its ground truth [H, W]."""
    normal_bins, normal_counts = np.unique(score_bins(scores[~mask]), return_counts=True)
    anomalous_bins, inverse = np.unique(score_bins(scores[mask]), return_inverse=True)
    size = len(anomalous_bins)
    positives = np.bincount(inverse, minlength=size)
    weights = np.bincount(inverse, region_weights(mask)[mask], minlength=size)
    rows = ScoreHistogram(
        np.concatenate([normal_bins, anomalous_bins]),
        np.concatenate([normal_counts, np.zeros(size, np.int64)]),
        np.concatenate([np.zeros(len(normal_bins), np.int64), positives]),
        np.concatenate([np.zeros(len(normal_bins)), weights]),
    )
    return merge([rows])


def region_weights(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Computes 1 / area of the region of each pixel, and 0 outside the regions: [H, W].

    Pixels that touch at a corner belong to the same region.
    """
    regions = label(mask, connectivity=2)
    areas = np.bincount(regions.ravel())
    return np.where(mask, 1 / np.maximum(areas, 1)[regions], 0)


def concatenate(histograms: Sequence[ScoreHistogram]) -> ScoreHistogram:
    """Returns the rows of all histograms, one histogram after another."""
    return ScoreHistogram(*(np.concatenate(columns) for columns in zip(*histograms, strict=True)))


def merge(histograms: Sequence[ScoreHistogram]) -> ScoreHistogram:
    """Adds histograms; the bins of the result are in ascending order."""
    bins, *columns = concatenate(histograms)
    order = np.argsort(bins, kind="stable")
    bins = bins[order]
    first = np.flatnonzero(np.diff(bins, prepend=bins[:1] - 1))
    if len(first) == 0:
        return EMPTY_HISTOGRAM
    return ScoreHistogram(bins[first], *(np.add.reduceat(column[order], first) for column in columns))


def descending_counts(histogram: ScoreHistogram) -> tuple[NDArray[np.float64], ...]:
    """Returns negatives, positives and region weights in descending order of scores."""
    return tuple(column[::-1].astype(np.float64) for column in merge([histogram])[1:])


def coarsen(histogram: ScoreHistogram, max_bins: int) -> ScoreHistogram:
    """Merges neighbouring bins until at most `max_bins` are left."""
    return merge([histogram._replace(bins=coarsen_bins(histogram.bins, max_bins))])


def coarsen_bins(bins: NDArray[np.int32], max_bins: int) -> NDArray[np.int32]:
    """Clears as few of the lowest bits as possible so that at most `max_bins` different bins are left."""
    distinct, shift = np.sort(bins), 0
    while np.count_nonzero(np.diff(distinct)) >= max_bins:
        distinct, shift = distinct >> 1, shift + 1
    return bins >> shift << shift
