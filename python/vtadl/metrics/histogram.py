"""Pixel scores as a histogram, in memory that does not grow with the number of pixels.

A score is kept to 16 significant bits: its bin is the upper 24 bits of its float32 (sign, exponent, 15 bits
of the fraction), so any two scores that differ by more than 2^-15 of their size keep their order, whatever
their range, and histograms of different batches and processes add up. The figures are exact for scores so
rounded; AUROC, for one, is within half the share of pairs (normal pixel, anomalous pixel) that fall into one
bin.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label


class PixelCounts(NamedTuple):
    """What falls into each bin of scores; a bin without pixels has no row."""

    keys: NDArray[np.int32]  # [R] bins: a larger key is a larger score
    negatives: NDArray[np.int64]  # [R] normal pixels
    positives: NDArray[np.int64]  # [R] anomalous pixels
    shares: NDArray[np.float64]  # [R] anomalous pixels, each 1 / area of its region


NO_PIXELS = PixelCounts(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def score_keys(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    """The bins of scores [M], in the order of the scores."""
    bits = (scores + np.float32(0)).view(np.int32)  # adding 0 makes -0 equal to 0
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 8


def count_pixels(scores: NDArray[np.float32], mask: NDArray[np.bool_]) -> PixelCounts:
    """The histogram of one anomaly map [H, W] under its mask [H, W]."""
    normal, counts = np.unique(score_keys(scores[~mask]), return_counts=True)
    marked, inverse = np.unique(score_keys(scores[mask]), return_inverse=True)
    none, zeros = np.zeros(len(marked), np.int64), np.zeros(len(normal), np.int64)
    positives = np.bincount(inverse, minlength=len(marked))
    shares = np.bincount(inverse, region_shares(mask)[mask], minlength=len(marked))
    rows = PixelCounts(
        np.concatenate([normal, marked]),
        np.concatenate([counts, none]),
        np.concatenate([zeros, positives]),
        np.concatenate([zeros.astype(np.float64), shares]),
    )
    return merge([rows])


def region_shares(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """1 / area of a pixel's region, 0 outside: [H, W]; pixels that touch at a corner are one region."""
    regions = label(mask, connectivity=2)
    areas = np.bincount(regions.ravel())
    return np.where(mask, 1 / np.maximum(areas, 1)[regions], 0)


def join(histograms: Sequence[PixelCounts]) -> PixelCounts:
    """The rows of all histograms, one after another."""
    return PixelCounts(*(np.concatenate(columns) for columns in zip(*histograms, strict=True)))


def merge(histograms: Sequence[PixelCounts]) -> PixelCounts:
    """The sum of histograms, in ascending order of keys."""
    keys, *columns = join(histograms)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    if len(first) == 0:
        return NO_PIXELS
    return PixelCounts(keys[first], *(np.add.reduceat(column[order], first) for column in columns))


def descending(histogram: PixelCounts) -> tuple[NDArray[np.float64], ...]:
    """Negatives, positives and shares at each score, from the largest down."""
    return tuple(column[::-1].astype(np.float64) for column in merge([histogram])[1:])


def coarsen(histogram: PixelCounts, limit: int) -> PixelCounts:
    """The histogram in at most `limit` rows, whose bins are as fine as that allows."""
    return merge([histogram._replace(keys=coarse_keys(histogram.keys, limit))])


def coarse_keys(keys: NDArray[np.int32], limit: int) -> NDArray[np.int32]:
    """Keys with the fewest lowest bits cleared that leave at most `limit` different ones."""
    different, shift = np.sort(keys), 0
    while np.count_nonzero(np.diff(different)) >= limit:
        different, shift = different >> 1, shift + 1
    return keys >> shift << shift
