"""The torchmetrics metric of the detector: it takes batches, in any number of processes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from vtadl.errors import InputError
from vtadl.metrics.evaluation import Evaluation, compute_metrics, evaluate
from vtadl.metrics.histogram import (
    EMPTY_HISTOGRAM,
    ScoreHistogram,
    coarsen,
    concatenate,
    merge,
)
from vtadl.metrics.map_histogram import map_histogram
from vtadl.metrics.weighted import ScoredImages

KIND_BYTES = 64  # of a kind's name, which is stored as a tensor because processes exchange tensors only
MAX_BINS_PER_IMAGE = 1024  # of the histogram that is kept of each image
PER_IMAGE = (
    "scores",
    "peaks",
    "labels",
    "kinds",
    "brightness",
    "num_bins",
)  # the states with a row for each image
MIN_PENDING_ROWS = 1_000_000  # histograms with fewer rows are not merged yet


class DetectionMetrics(Metric):
    """AUROC, average precision and maximal F1 of image scores and of anomaly maps, and AUPRO of the maps.

    `compute` returns the metrics by name: `image_auroc`, `image_average_precision`, `image_f1_max`, the same
    three with the prefix `pixel_`, `aupro` up to a false-positive rate of 0.3, and `aupro_0.05` up to one of
    0.05. (Some papers use the name PRO for the area over all false-positive rates of single pixels, which is
    `pixel_auroc`.) `evaluate` adds confidence intervals, curves and a table by kind of defect.

    Pixels are those of the masks, which may have any size: a map is brought to the size of its mask.

    A metric that the data do not define is left out: all image metrics if there are only normal or only
    anomalous images, and all pixel metrics if no mask marks a pixel. Image metrics are exact. Pixel metrics
    are those of scores rounded to 16 significant bits (`vtadl.metrics.histogram`), so that 5,000 maps of
    512x512 pixels fit into 1 GB.
    """

    full_state_update = False
    scores: list[Tensor]  # [B]
    peaks: list[Tensor]  # [B] the largest score of a pixel
    labels: list[Tensor]  # [B]
    kinds: list[Tensor]  # [B, KIND_BYTES]
    brightness: list[Tensor]  # [B] mean grey levels; NaN if they are unknown
    num_bins: list[Tensor]  # [B] numbers of rows of each image's histogram; 0 if its mask is unknown
    image_counts: list[Tensor]  # [R, 3] bin, negatives, positives: the images' histograms, concatenated
    image_weights: list[Tensor]  # [R] region weights of the same rows
    pixel_counts: list[Tensor]  # [R, 3] the histogram of all images together, at full resolution
    pixel_weights: list[Tensor]  # [R] region weights of the same rows

    def __init__(self) -> None:
        super().__init__()
        for name in (*PER_IMAGE, "image_counts", "image_weights", "pixel_counts", "pixel_weights"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        scores: Tensor,
        labels: Tensor,
        maps: Tensor,
        masks: Tensor | Sequence[Tensor],
        has_mask: Tensor,
        kinds: Sequence[str] | None = None,
        brightness: Tensor | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            scores: Scores of the images [B]; larger is more anomalous.
            labels: 0 normal, 1 anomalous [B].
            maps: Scores of the pixels [B, 1, h, w]. Where a mask has another size, the map is brought to it
                by bilinear interpolation.
            masks: 0 normal, above 0 anomalous [B, 1, H, W], or a list of B masks [1, H, W] of any sizes.
            has_mask: Whether the mask is known [B]; an image without a mask is left out of the pixel metrics.
            kinds: Name of each image's kind of defect, for the table of `evaluate`.
            brightness: Mean grey level of each image [B].

        Raises:
            InputError: If a score is NaN or infinite.
        """
        if not (scores.isfinite().all() and maps.isfinite().all()):
            raise InputError("a score of the detector is NaN or infinite, and cannot be ranked")
        known = has_mask.nonzero()[:, 0].tolist()
        histograms = [map_histogram(maps[index, 0], masks[index][0]) for index in known]
        coarse = [coarsen(histogram, MAX_BINS_PER_IMAGE) for histogram in histograms]
        num_bins = torch.zeros_like(labels, dtype=torch.int64)
        lengths = torch.tensor([len(histogram.bins) for histogram in coarse], dtype=torch.int64)
        num_bins[has_mask] = lengths.to(num_bins.device)
        self.scores.append(scores.float())
        self.peaks.append(maps.float().flatten(1).amax(1))
        self.labels.append(labels.long())
        self.kinds.append(
            _encode_kinds(["anomalous"] * len(labels) if kinds is None else kinds).to(self.device)
        )
        self.brightness.append(torch.full_like(scores, torch.nan) if brightness is None else brightness)
        self.num_bins.append(num_bins)
        self._append("image", concatenate([EMPTY_HISTOGRAM, *coarse]))
        self._append("pixel", merge([EMPTY_HISTOGRAM, *histograms]))
        merged, *pending = map(len, self.pixel_weights)
        if sum(pending) > max(merged, MIN_PENDING_ROWS):
            self._compact()

    @property
    def num_images(self) -> int:
        """Number of images that this process has added since the last reset."""
        return sum(map(len, self.scores))

    def compute(self) -> dict[str, float]:
        """Returns the metrics by name, each in [0, 1]."""
        return compute_metrics(self._images(), self._histogram("pixel"))

    def evaluate(
        self,
        threshold: float | None = None,
        n_resamples: int = 1000,
        confidence_level: float = 0.95,
        seed: int = 0,
    ) -> Evaluation:
        """Computes the metrics, their bootstrap intervals, curves, and a table by kind of defect.

        Args:
            threshold: Threshold of image scores, above which images are counted; None for no count.
            n_resamples: Number of bootstrap resamples.
            confidence_level: Confidence level of the intervals, in (0, 1).
            seed: Seed of the resamples.
        """
        with self.sync_context():
            images, pixels = self._images(), self._histogram("pixel")
        return evaluate(images, pixels, threshold, n_resamples, confidence_level, seed)

    def normal_peaks(self) -> Tensor:
        """Returns the largest score of a pixel of each normal image [N]."""
        with self.sync_context():
            return dim_zero_cat(self.peaks)[dim_zero_cat(self.labels) == 0]

    def normal_brightness(self) -> Tensor:
        """Returns the mean grey levels of the normal images [N], or of all if none is normal."""
        with self.sync_context():
            levels, labels = dim_zero_cat(self.brightness), dim_zero_cat(self.labels)
        known, normal = ~levels.isnan(), labels == 0
        return levels[known & normal if normal.any() else known]

    def _images(self) -> ScoredImages:
        scores, labels, num_bins = (_to_numpy(state) for state in (self.scores, self.labels, self.num_bins))
        kinds = _decode_kinds(_to_numpy(self.kinds))
        return ScoredImages(scores, labels, kinds, self._histogram("image"), num_bins)

    def _append(self, name: str, histogram: ScoreHistogram) -> None:
        counts = torch.from_numpy(np.stack([column.astype(np.int64) for column in histogram[:3]], axis=1))
        weights = torch.from_numpy(histogram.region_weights).float()
        getattr(self, f"{name}_counts").append(counts.to(self.device))
        getattr(self, f"{name}_weights").append(weights.to(self.device))

    def _histogram(self, name: str) -> ScoreHistogram:
        counts, weights = (_to_numpy(getattr(self, f"{name}_{column}")) for column in ("counts", "weights"))
        bins, negatives, positives = counts.T
        return ScoreHistogram(bins.astype(np.int32), negatives, positives, weights.astype(np.float64))

    def _compact(self) -> None:
        """Merges the histograms and concatenates the other states; many small blocks fragment the memory."""
        for name in (*PER_IMAGE, "image_counts", "image_weights"):
            setattr(self, name, [dim_zero_cat(getattr(self, name))])
        merged = merge([self._histogram("pixel")])
        self.pixel_counts, self.pixel_weights = [], []
        self._append("pixel", merged)


def _to_numpy(state: list[Tensor]) -> NDArray[Any]:
    return dim_zero_cat(state).cpu().numpy()


def _encode_kinds(kinds: Sequence[str]) -> Tensor:
    """Encodes names as bytes [B, KIND_BYTES]; longer names are truncated."""
    padded = [kind.encode()[:KIND_BYTES].ljust(KIND_BYTES, b"\0") for kind in kinds]
    rows = np.frombuffer(bytearray(b"".join(padded)), dtype=np.uint8)
    return torch.from_numpy(rows).view(-1, KIND_BYTES)


def _decode_kinds(kinds: NDArray[np.uint8]) -> NDArray[np.str_]:
    return np.array([row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in kinds], dtype=np.str_)
