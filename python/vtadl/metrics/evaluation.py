"""What a test of the detector found: figures, their uncertainty, and a table by kind of defect."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from vtadl.metrics.curves import Curve, precision_recall, roc
from vtadl.metrics.figures import image_figures, pixel_figures
from vtadl.metrics.histogram import PixelCounts, descending
from vtadl.metrics.samples import Samples, count_images, weighted_figures

Figures = dict[str, float]
KIND_FIGURES = ("image_auroc", "pixel_auroc", "aupro")


@dataclass(frozen=True)
class Evaluation:
    """Figures by name, each in [0, 1]; one that the data do not define is left out."""

    figures: Figures
    intervals: dict[
        str, tuple[float, float]
    ]  # in which a figure lies at `level`, over choices of test images
    kinds: dict[
        str, Figures
    ]  # figures of each kind of defect against all normal images, and the number of images
    curves: dict[str, Curve]  # image_roc, image_pr, pixel_roc, pixel_pr, pro
    detected: dict[str, int]  # of the anomalous and the normal images, how many exceed the threshold
    images: int
    level: float

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        return asdict(self) | {"curves": {name: curve._asdict() for name, curve in self.curves.items()}}

    def __rich__(self) -> RenderableType:
        figures = Table("figure", "value", f"{self.level:.0%} interval", title=f"{self.images} test images")
        for name, value in self.figures.items():
            low, high = self.intervals[name]
            figures.add_row(name, f"{value:.4f}", f"{low:.4f} to {high:.4f}")
        kinds = Table("kind", "images", *KIND_FIGURES, title="each kind of defect against the normal images")
        for kind, row in self.kinds.items():
            cells = [f"{row[name]:.4f}" if name in row else "" for name in KIND_FIGURES]
            kinds.add_row(kind, f"{row['images']:.0f}", *cells)
        tables = [table for table, has_rows in ((figures, self.figures), (kinds, self.kinds)) if has_rows]
        return Group(*tables, *self._sentences(), *self.missing())

    def missing(self) -> list[str]:
        """What the data do not define, and why, one sentence each."""
        sentences = []
        if "image_auroc" not in self.figures:
            kinds = [kind for kind in ("normal", "anomalous") if self.detected.get(kind, 1)]
            sentences.append(f"there are no figures of images: all are {' or all are '.join(kinds)}")
        if "pixel_auroc" not in self.figures:
            sentences.append("there are no figures of pixels: no anomalous image has a mask")
        return sentences

    def _sentences(self) -> list[str]:
        """What the threshold made of the images."""
        sentences = (
            ("anomalous", "hits", "anomalous images are found"),
            ("normal", "false_alarms", "normal images are false alarms"),
        )
        return [
            f"at the threshold {self.detected[exceeding]} of {self.detected[all_]} {what}"
            for all_, exceeding, what in sentences
            if self.detected.get(all_)
        ]


def evaluate(
    samples: Samples,
    pixels: PixelCounts,
    threshold: float | None,
    resamples: int,
    level: float,
    seed: int,
) -> Evaluation:
    """All there is to say of the test images and of the histogram of all their pixels."""
    return Evaluation(
        figures=figures_of(samples, pixels),
        intervals=bootstrap_intervals(samples, resamples, level, seed),
        kinds=kind_figures(samples),
        curves=curves_of(samples, pixels),
        detected={} if threshold is None else detected(samples, threshold),
        images=len(samples.labels),
        level=level,
    )


def detected(samples: Samples, threshold: float) -> dict[str, int]:
    """How many anomalous and normal images there are, and how many of each exceed the threshold."""
    exceeding, anomalous = samples.scores > threshold, samples.labels == 1
    return {
        "anomalous": int(anomalous.sum()),
        "hits": int((exceeding & anomalous).sum()),
        "normal": int((~anomalous).sum()),
        "false_alarms": int((exceeding & ~anomalous).sum()),
    }


def figures_of(samples: Samples, pixels: PixelCounts) -> Figures:
    """The figures that the data define."""
    (negatives,), (positives,) = count_images(samples, np.ones((1, len(samples.labels))))
    figures = image_figures(negatives, positives) | pixel_figures(*descending(pixels))
    return {name: value.item() for name, value in figures.items() if not np.isnan(value)}


def curves_of(samples: Samples, pixels: PixelCounts) -> dict[str, Curve]:
    """The curves that the data define."""
    (negatives,), (positives,) = count_images(samples, np.ones((1, len(samples.labels))))
    curves: dict[str, Curve] = {}
    if negatives.any() and positives.any():
        curves |= {"image_roc": roc(negatives, positives), "image_pr": precision_recall(negatives, positives)}
    negatives, positives, shares = descending(pixels)
    if negatives.any() and positives.any():
        curves |= {"pixel_roc": roc(negatives, positives), "pixel_pr": precision_recall(negatives, positives)}
        curves["pro"] = roc(negatives, shares)
    return curves


def bootstrap_intervals(
    samples: Samples, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of each figure (Efron, 1979).

    Images are drawn with replacement, as many normal and as many anomalous ones as there are; the pixels of
    an image, which are not independent, come along with it. The order of the images makes no difference.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(samples.labels)))
    order = np.lexsort((samples.rows, samples.scores))
    for label in (0, 1):
        images = order[samples.labels[order] == label]
        if count := len(images):
            weights[:, images] = rng.multinomial(count, np.full(count, 1 / count), resamples)
    tails = (0.5 - level / 2, 0.5 + level / 2)
    return {
        name: (float(low), float(high))
        for name, values in weighted_figures(samples, weights).items()
        if not np.isnan(values).all()
        for low, high in [np.nanquantile(values, tails)]
    }


def kind_figures(samples: Samples) -> dict[str, Figures]:
    """AUROC of images and pixels, and AUPRO, of each kind of defect against all normal images."""
    normal = samples.labels == 0
    kinds = np.unique(samples.kinds[~normal]).tolist()
    if not kinds or not normal.any():
        return {}
    members = np.stack([~normal & (samples.kinds == kind) for kind in kinds])
    figures = weighted_figures(samples, (normal | members).astype(np.float64))
    return {
        kind: {"images": float(members[row].sum())}
        | {name: float(figures[name][row]) for name in KIND_FIGURES if not np.isnan(figures[name][row])}
        for row, kind in enumerate(kinds)
    }
