"""Figures of any weighting of the test images, as resampling and the table of kinds want them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtadl.metrics.figures import Array, image_figures, pixel_figures
from vtadl.metrics.histogram import PixelCounts, coarse_keys

BINS = 2048  # of the pixel scores of all images together
CHUNK = 64  # weightings evaluated at once


class Samples(NamedTuple):
    """The test images."""

    scores: NDArray[np.float32]  # [I]
    labels: NDArray[np.int64]  # [I]
    kinds: NDArray[np.str_]  # [I]
    pixels: PixelCounts  # the rows of all images, one image after another
    rows: NDArray[np.int64]  # [I] rows of each image; 0 if its mask is not known


def weighted_figures(samples: Samples, weights: Array) -> dict[str, Array]:
    """All figures by name, each [W], where image i counts weights[w, i] times (weights [W, I]).

    Pixel scores are rounded to 2048 different ones, and images with more than 1024 different scores to fewer.
    """
    dense = _dense_counts(samples)
    chunks = [
        image_figures(*count_images(samples, part))
        | pixel_figures(*(part.astype(np.float32) @ dense).astype(np.float64))
        for part in np.split(weights, range(CHUNK, len(weights), CHUNK))
    ]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def count_images(samples: Samples, weights: Array) -> tuple[Array, Array]:
    """Normal and anomalous images, weighted by [W, I], at each score from the largest down: [W, M]."""
    order = np.argsort(-samples.scores, kind="stable")
    scores, labels, weights = samples.scores[order], samples.labels[order], weights[:, order]
    first = np.flatnonzero(np.diff(scores, prepend=np.inf))
    normal, anomalous = (np.add.reduceat(weights * (labels == label), first, axis=1) for label in (0, 1))
    return normal, anomalous


def _dense_counts(samples: Samples) -> NDArray[np.float32]:
    """Negatives, positives and shares of each image at each score, from the largest down: [3, I, M]."""
    keys, bins = np.unique(-coarse_keys(samples.pixels.keys, BINS), return_inverse=True)
    images = np.repeat(np.arange(len(samples.rows)), samples.rows)
    dense = np.zeros((3, len(samples.rows), len(keys)), np.float32)
    for counts, column in zip(dense, samples.pixels[1:], strict=True):
        np.add.at(counts, (images, bins), column)
    return dense
