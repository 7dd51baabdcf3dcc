"""The torchmetrics form of the figures: batches in, figures out, over any number of processes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from vtadl.errors import InputError
from vtadl.metrics.evaluation import Evaluation, evaluate, figures_of
from vtadl.metrics.histogram import NO_PIXELS, PixelCounts, coarsen, count_pixels, join, merge
from vtadl.metrics.samples import Samples

KIND_BYTES = 64  # processes exchange tensors, not text
ROWS_OF_IMAGE = 1024  # of the histogram kept of each image
PENDING_ROWS = 1_000_000  # at least, before they are merged


class DetectionMetrics(Metric):
    """AUROC, average precision and largest F1 of image scores and of anomaly maps, and AUPRO of the maps.

    `compute` gives the figures by name: `image_auroc`, `image_average_precision`, `image_f1_max`, the same of
    `pixel_`, and `aupro` up to a false-positive rate of 0.3. (What some papers call PRO, the area over all
    false-positive rates of single pixels, is `pixel_auroc`.) `evaluate` adds intervals and a table by kind of
    defect.

    A figure that the data do not define is left out: all of an image kind when only normal or only anomalous
    images were seen, and the pixel kind when no mask marks a pixel. Image figures are exact; pixel figures
    are those of scores rounded to 16 significant bits (`vtadl.metrics.histogram`), so that 5,000 maps of
    512x512 pixels fit into 1 GB.
    """

    full_state_update = False
    scores: list[Tensor]  # [B]
    labels: list[Tensor]  # [B]
    kinds: list[Tensor]  # [B, KIND_BYTES]
    rows: list[Tensor]  # [B] of the image's own histogram; 0 if its mask is not known
    image_counts: list[Tensor]  # [R, 3] key, negatives, positives: the images' histograms one after another
    image_shares: list[Tensor]  # [R] their shares of regions
    pixel_counts: list[Tensor]  # [R, 3] the histogram of all images together, at full resolution
    pixel_shares: list[Tensor]  # [R]

    def __init__(self) -> None:
        super().__init__()
        per_image = ("scores", "labels", "kinds", "rows")
        for name in (*per_image, "image_counts", "image_shares", "pixel_counts", "pixel_shares"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        scores: Tensor,
        labels: Tensor,
        maps: Tensor,
        masks: Tensor,
        has_mask: Tensor,
        kinds: Sequence[str] | None = None,
    ) -> None:
        """Takes in a batch.

        Args:
            scores: Scores of the images [B]; larger is more anomalous.
            labels: 0 normal, 1 anomalous [B].
            maps: Scores of the pixels [B, 1, H, W].
            masks: 0 normal, above 0 anomalous [B, 1, H, W].
            has_mask: Whether the mask is known [B]; if not, the image stays out of the pixel figures.
            kinds: Name of each image's kind of defect, for the table of `evaluate`.

        Raises:
            InputError: If a score is NaN or infinite.
        """
        if not (scores.isfinite().all() and maps.isfinite().all()):
            raise InputError(
                "a score of the detector is NaN or infinite, which has no place among the others"
            )
        images = [
            count_pixels(anomaly_map, mask)
            for anomaly_map, mask in zip(
                maps[has_mask, 0].float().cpu().numpy(), (masks[has_mask, 0] > 0).cpu().numpy(), strict=True
            )
        ]
        coarse = [coarsen(image, ROWS_OF_IMAGE) for image in images]
        rows = torch.zeros_like(labels, dtype=torch.int64)
        lengths = torch.tensor([len(image.keys) for image in coarse], dtype=torch.int64)
        rows[has_mask] = lengths.to(rows.device)
        self.scores.append(scores.float())
        self.labels.append(labels.long())
        self.kinds.append(_encode(kinds or ["anomalous"] * len(labels)).to(self.device))
        self.rows.append(rows)
        self._append("image", join([NO_PIXELS, *coarse]))
        self._append("pixel", merge([NO_PIXELS, *images]))
        merged, *pending = map(len, self.pixel_shares)
        if sum(pending) > max(merged, PENDING_ROWS):
            self._compact()

    @property
    def images_seen(self) -> int:
        """Images that this process took in since the last reset."""
        return sum(map(len, self.scores))

    def compute(self) -> dict[str, float]:
        """The figures by name, each in [0, 1]."""
        return figures_of(self._samples(), self._pixel_counts("pixel"))

    def evaluate(
        self, threshold: float | None = None, resamples: int = 1000, level: float = 0.95, seed: int = 0
    ) -> Evaluation:
        """The figures, their intervals at `level` by resampling, curves, and a table by kind of defect.

        Where a `threshold` of images is given, also how many exceed it.
        """
        with self.sync_context():
            samples, pixels = self._samples(), self._pixel_counts("pixel")
        return evaluate(samples, pixels, threshold, resamples, level, seed)

    def _samples(self) -> Samples:
        scores, labels, rows = (_cat(state) for state in (self.scores, self.labels, self.rows))
        return Samples(scores, labels, _decode(_cat(self.kinds)), self._pixel_counts("image"), rows)

    def _append(self, name: str, pixels: PixelCounts) -> None:
        counts = torch.from_numpy(np.stack([column.astype(np.int64) for column in pixels[:3]], axis=1))
        getattr(self, f"{name}_counts").append(counts.to(self.device))
        getattr(self, f"{name}_shares").append(torch.from_numpy(pixels.shares).float().to(self.device))

    def _pixel_counts(self, name: str) -> PixelCounts:
        counts, shares = (_cat(getattr(self, f"{name}_{column}")) for column in ("counts", "shares"))
        keys, negatives, positives = counts.T
        return PixelCounts(keys.astype(np.int32), negatives, positives, shares.astype(np.float64))

    def _compact(self) -> None:
        """Merges the histograms, and joins what else is kept: many small blocks would split up the memory."""
        for name in ("scores", "labels", "kinds", "rows", "image_counts", "image_shares"):
            setattr(self, name, [dim_zero_cat(getattr(self, name))])
        merged = merge([self._pixel_counts("pixel")])
        self.pixel_counts, self.pixel_shares = [], []
        self._append("pixel", merged)


def _cat(state: list[Tensor]) -> NDArray[Any]:
    return dim_zero_cat(state).cpu().numpy()


def _encode(kinds: Sequence[str]) -> Tensor:
    """Names as bytes [B, KIND_BYTES], cut where they are longer."""
    padded = [kind.encode()[:KIND_BYTES].ljust(KIND_BYTES, b"\0") for kind in kinds]
    return torch.frombuffer(bytearray(b"".join(padded)), dtype=torch.uint8).view(-1, KIND_BYTES)


def _decode(kinds: NDArray[np.uint8]) -> NDArray[np.str_]:
    return np.array([row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in kinds], dtype=np.str_)
