"""Metrics of weighted test images, for bootstrap resampling and for the table of defect kinds."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtadl.metrics.functional import FloatArray, image_metrics, pixel_metrics
from vtadl.metrics.histogram import ScoreHistogram, coarsen_bins

MAX_BINS = 2048  # of the pixel scores of all images
_CHUNK = 64  # weightings that are evaluated at once


class ScoredImages(NamedTuple):
    """The scores and the ground truth of I test images."""

    scores: NDArray[np.float32]  # [I]
    labels: NDArray[np.int64]  # [I] 0 normal, 1 anomalous
    kinds: NDArray[np.str_]  # [I] kinds of defect
    pixels: ScoreHistogram  # the rows of all images, one image after another
    num_bins: NDArray[np.int64]  # [I] numbers of rows of each image; 0 if its mask is unknown


def weighted_metrics(images: ScoredImages, weights: FloatArray) -> dict[str, FloatArray]:
    """Computes all metrics by name, each [W], where image i counts weights[w, i] times (weights [W, I]).

    Pixel scores are rounded to `MAX_BINS` different values, on top of the rounding of each image's histogram.
    """
    dense = _dense_counts(images)
    chunks = [
        image_metrics(*count_images(images, chunk))
        | pixel_metrics(*(chunk.astype(np.float32) @ dense).astype(np.float64))
        for chunk in np.split(weights, range(_CHUNK, len(weights), _CHUNK))
    ]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def count_images(images: ScoredImages, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Counts normal and anomalous images, weighted by [W, I], in descending order of scores: each [W, M]."""
    order = np.argsort(-images.scores, kind="stable")
    scores, labels, weights = images.scores[order], images.labels[order], weights[:, order]
    first = np.flatnonzero(np.diff(scores, prepend=np.inf))
    normal, anomalous = (np.add.reduceat(weights * (labels == label), first, axis=1) for label in (0, 1))
    return normal, anomalous


def _dense_counts(images: ScoredImages) -> NDArray[np.float32]:
    """Returns negatives, positives and region weights of each image [3, I, M], in descending score order."""
    bins, columns = np.unique(-coarsen_bins(images.pixels.bins, MAX_BINS), return_inverse=True)
    rows = np.repeat(np.arange(len(images.num_bins)), images.num_bins)
    dense = np.zeros((3, len(images.num_bins), len(bins)), np.float32)
    for counts, values in zip(dense, images.pixels[1:], strict=True):
        np.add.at(counts, (rows, columns), values)
    return dense
