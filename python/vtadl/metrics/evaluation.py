"""What a test of the detector found: figures, their uncertainty, and a table by kind of defect."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from vtadl.metrics.samples import Samples, weighted_figures

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
    images: int
    level: float

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        return asdict(self)

    def __rich__(self) -> RenderableType:
        figures = Table("figure", "value", f"{self.level:.0%} interval", title=f"{self.images} test images")
        for name, value in self.figures.items():
            low, high = self.intervals[name]
            figures.add_row(name, f"{value:.4f}", f"{low:.4f} to {high:.4f}")
        kinds = Table("kind", "images", *KIND_FIGURES, title="each kind of defect against the normal images")
        for kind, row in self.kinds.items():
            cells = [f"{row[name]:.4f}" if name in row else "" for name in KIND_FIGURES]
            kinds.add_row(kind, f"{row['images']:.0f}", *cells)
        return Group(figures, kinds) if self.kinds else figures


def bootstrap_intervals(
    samples: Samples, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of each figure (Efron, 1979).

    Images are drawn with replacement, as many normal and as many anomalous ones as there are; the pixels of
    an image, which are not independent, come along with it.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(samples.labels)))
    for label in (0, 1):
        (images,) = np.nonzero(samples.labels == label)
        if len(images):
            weights[:, images] = rng.multinomial(
                len(images), np.full(len(images), 1 / len(images)), resamples
            )
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
