"""The results of a test: metrics, their confidence intervals, curves, and a table by kind of defect."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from vtadl.metrics.curves import Curve, precision_recall, roc
from vtadl.metrics.functional import image_metrics, pixel_metrics
from vtadl.metrics.histogram import ScoreHistogram, descending_counts
from vtadl.metrics.weighted import ScoredImages, count_images, weighted_metrics

KIND_METRICS = ("image_auroc", "pixel_auroc", "aupro")


@dataclass(frozen=True)
class Evaluation:
    """The results of a test; a metric that the data do not define is left out.

    Attributes:
        metrics: Metrics by name, each in [0, 1].
        intervals: Lower and upper bound of each metric at `confidence_level`, over choices of test images.
        kinds: For each kind of defect, its metrics against all normal images, and `images`, their number.
        curves: Curves by name: image_roc, image_pr, pixel_roc, pixel_pr and pro.
        detected: Numbers of `anomalous` and `normal` images, and of `hits` and `false_alarms`, the anomalous
            and the normal images whose score exceeds the threshold; empty without a threshold.
        num_images: Number of test images.
        confidence_level: Confidence level of the intervals.
        notes: What a reader of the results should know about the test images, one sentence each.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    kinds: dict[str, dict[str, float]]
    curves: dict[str, Curve]
    detected: dict[str, int]
    num_images: int
    confidence_level: float
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns the results as types that JSON can hold, with the keys of `evaluation.json`."""
        return {
            "figures": self.metrics,
            "intervals": self.intervals,
            "kinds": self.kinds,
            "curves": {name: curve._asdict() for name, curve in self.curves.items()},
            "detected": self.detected,
            "images": self.num_images,
            "level": self.confidence_level,
            "notes": list(self.notes),
        }

    def __rich__(self) -> RenderableType:
        title = f"{self.num_images} test images"
        metrics = Table("metric", "value", f"{self.confidence_level:.0%} interval", title=title)
        for name, value in self.metrics.items():
            low, high = self.intervals[name]
            metrics.add_row(name, f"{value:.4f}", f"{low:.4f} to {high:.4f}")
        kinds = Table("kind", "images", *KIND_METRICS, title="each kind of defect against the normal images")
        for kind, row in self.kinds.items():
            cells = [f"{row[name]:.4f}" if name in row else "" for name in KIND_METRICS]
            kinds.add_row(kind, f"{row['images']:.0f}", *cells)
        tables = [table for table, has_rows in ((metrics, self.metrics), (kinds, self.kinds)) if has_rows]
        return Group(*tables, *self._detection_sentences(), *self.missing(), *self.notes)

    def missing(self) -> list[str]:
        """Returns a sentence for each group of metrics that the data do not define; it says why."""
        sentences = []
        if "image_auroc" not in self.metrics:
            labels = [label for label in ("normal", "anomalous") if self.detected.get(label, 1)]
            sentences.append(f"there are no image metrics: all images are {' or all are '.join(labels)}")
        if "pixel_auroc" not in self.metrics:
            sentences.append("there are no pixel metrics: no anomalous image has a mask")
        return sentences

    def _detection_sentences(self) -> list[str]:
        counts = (
            ("anomalous", "hits", "anomalous images are detected"),
            ("normal", "false_alarms", "normal images are false alarms"),
        )
        return [
            f"at the threshold {self.detected[exceeding]} of {self.detected[total]} {sentence}"
            for total, exceeding, sentence in counts
            if self.detected.get(total)
        ]


def evaluate(
    images: ScoredImages,
    pixels: ScoreHistogram,
    threshold: float | None,
    n_resamples: int,
    confidence_level: float,
    seed: int,
) -> Evaluation:
    """Evaluates the test images and the histogram of all their pixels."""
    return Evaluation(
        metrics=compute_metrics(images, pixels),
        intervals=bootstrap_intervals(images, n_resamples, confidence_level, seed),
        kinds=metrics_by_kind(images),
        curves=compute_curves(images, pixels),
        detected={} if threshold is None else count_detections(images, threshold),
        num_images=len(images.labels),
        confidence_level=confidence_level,
    )


def count_detections(images: ScoredImages, threshold: float) -> dict[str, int]:
    """Counts anomalous and normal images, and those of each whose score exceeds the threshold."""
    exceeds, anomalous = images.scores > threshold, images.labels == 1
    return {
        "anomalous": int(anomalous.sum()),
        "hits": int((exceeds & anomalous).sum()),
        "normal": int((~anomalous).sum()),
        "false_alarms": int((exceeds & ~anomalous).sum()),
    }


def compute_metrics(images: ScoredImages, pixels: ScoreHistogram) -> dict[str, float]:
    """Computes the metrics that the data define."""
    (negatives,), (positives,) = count_images(images, np.ones((1, len(images.labels))))
    metrics = image_metrics(negatives, positives) | pixel_metrics(*descending_counts(pixels))
    return {name: value.item() for name, value in metrics.items() if not np.isnan(value)}


def compute_curves(images: ScoredImages, pixels: ScoreHistogram) -> dict[str, Curve]:
    """Computes the curves that the data define."""
    (negatives,), (positives,) = count_images(images, np.ones((1, len(images.labels))))
    curves: dict[str, Curve] = {}
    if negatives.any() and positives.any():
        curves |= {"image_roc": roc(negatives, positives), "image_pr": precision_recall(negatives, positives)}
    negatives, positives, region_weights = descending_counts(pixels)
    if negatives.any() and positives.any():
        curves |= {"pixel_roc": roc(negatives, positives), "pixel_pr": precision_recall(negatives, positives)}
        curves["pro"] = roc(negatives, region_weights)
    return curves


def bootstrap_intervals(
    images: ScoredImages, n_resamples: int = 1000, confidence_level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Computes percentile bootstrap intervals of all metrics (Efron, 1979).

    Images are drawn with replacement, as many normal and as many anomalous ones as there are. The pixels of
    an image are not independent, so that they are drawn together. The result does not depend on the order of
    the images.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((n_resamples, len(images.labels)))
    order = np.lexsort((images.num_bins, images.scores))
    for label in (0, 1):
        members = order[images.labels[order] == label]
        if count := len(members):
            weights[:, members] = rng.multinomial(count, np.full(count, 1 / count), n_resamples)
    quantiles = (0.5 - confidence_level / 2, 0.5 + confidence_level / 2)
    return {
        name: (float(low), float(high))
        for name, values in weighted_metrics(images, weights).items()
        if not np.isnan(values).all()
        for low, high in [np.nanquantile(values, quantiles)]
    }


def metrics_by_kind(images: ScoredImages) -> dict[str, dict[str, float]]:
    """Computes the metrics of each kind of defect against all normal images, and the number of its images."""
    normal = images.labels == 0
    kinds = np.unique(images.kinds[~normal]).tolist()
    if not kinds or not normal.any():
        return {}
    members = np.stack([~normal & (images.kinds == kind) for kind in kinds])
    metrics = weighted_metrics(images, (normal | members).astype(np.float64))
    return {
        kind: {"images": float(members[row].sum())}
        | {name: float(metrics[name][row]) for name in KIND_METRICS if not np.isnan(metrics[name][row])}
        for row, kind in enumerate(kinds)
    }
