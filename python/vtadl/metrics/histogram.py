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


def score_histogram(
    normal: NDArray[np.float32], anomalous: NDArray[np.float32], weights: NDArray[np.float64]
) -> ScoreHistogram:
    """Computes the histogram of scores of normal pixels [N] and of anomalous pixels [A].

    Args:
        normal: Scores of normal pixels [N].
        anomalous: Scores of anomalous pixels [A].
        weights: 1 / area of the region of each anomalous pixel [A].
    """
    normal_bins, normal_counts = np.unique(score_bins(normal), return_counts=True)
    none = np.zeros(len(normal_bins), np.int64)
    rows = ScoreHistogram(normal_bins, normal_counts, none, none.astype(np.float64))
    if not len(anomalous):
        return rows
    bins, inverse = np.unique(score_bins(anomalous), return_inverse=True)
    positives = np.bincount(inverse)
    weight_sums = np.bincount(inverse, weights).astype(np.float64)
    return merge([rows, ScoreHistogram(bins, np.zeros_like(positives), positives, weight_sums)])


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
