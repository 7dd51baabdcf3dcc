"""The plots of a report, as SVG images in data URIs."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from vtadl.metrics import Curve
from vtadl.metrics.functional import MAX_FPR
from vtadl.report.rendering import RGBImage

NORMAL_COLOUR, ANOMALOUS_COLOUR = "#3d6ea8", "#d4553b"
MAX_PICTURE_SIDE = 256  # pixels


def curve_plots(curves: dict[str, Curve]) -> dict[str, str]:
    """Plots the ROC, precision-recall and per-region overlap curves that the data define, by title."""
    plots = {
        "ROC": (("image_roc", "pixel_roc"), "false-positive rate", "true-positive rate"),
        "Precision and recall": (("image_pr", "pixel_pr"), "recall", "precision"),
        "Per-region overlap": (("pro",), "false-positive rate of pixels", "overlap"),
    }
    return {
        title: _curve_plot({name: curves[name] for name in names if name in curves}, *labels)
        for title, (names, *labels) in plots.items()
        if any(name in curves for name in names)
    }


def _curve_plot(curves: dict[str, Curve], xlabel: str, ylabel: str) -> str:
    figure, axes = _figure()
    for name, curve in curves.items():
        kind = name.partition("_")[0]
        colour = ANOMALOUS_COLOUR if kind == "pixel" else NORMAL_COLOUR
        axes.plot(
            curve.x, curve.y, color=colour, label={"pro": "regions"}.get(kind, f"{kind}s"), linewidth=1.8
        )
        if kind == "pro":
            axes.axvspan(0, MAX_FPR, color="#000", alpha=0.05, linewidth=0)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, loc="lower left" if ylabel == "precision" else "lower right")
    return _svg(figure)


def histogram_plot(scores: Sequence[float], labels: Sequence[int]) -> str:
    """Plots the distributions of the normalised scores of normal and anomalous images."""
    figure, axes = _figure()
    values, targets = np.array(scores), np.array(labels)
    edges = np.linspace(0, 1, 41).tolist()
    for label, name, colour in ((0, "normal", NORMAL_COLOUR), (1, "anomalous", ANOMALOUS_COLOUR)):
        if (targets == label).any():
            axes.hist(values[targets == label], edges, color=colour, alpha=0.65, label=name)
    axes.axvline(0.5, color="#222", linestyle="--", linewidth=1)
    axes.set(xlim=(0, 1), xlabel="normalised score (threshold at 0.5)", ylabel="images")
    axes.legend(frameon=False)
    return _svg(figure)


def history_plots(rows: Sequence[dict[str, float]]) -> dict[str, str]:
    """Plots each training metric by epoch, together with the validation metric of the same name.

    A run without training has no plots.
    """
    names = sorted({name.removeprefix("train_") for row in rows for name in row if name.startswith("train_")})
    plots = {
        name: _history_plot(rows, {"training": f"train_{name}", "validation": f"val_{name}"})
        for name in names
    }
    return {
        name.replace("_", " "): plot
        for name, plot in sorted(plots.items(), key=lambda item: item[0] != "loss")
    }


def _history_plot(rows: Sequence[dict[str, float]], columns: dict[str, str]) -> str:
    figure, axes = _figure()
    for (label, column), colour in zip(columns.items(), (NORMAL_COLOUR, ANOMALOUS_COLOUR), strict=True):
        points = [(row["epoch"] + 1, row[column]) for row in rows if column in row]
        if points:
            axes.plot(
                *zip(*points, strict=True), color=colour, marker="." if len(rows) < 40 else None, label=label
            )
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return _svg(figure)


def jpeg_data_uri(pixels: RGBImage) -> str:
    """Encodes a picture as a data URI, downscaled to at most `MAX_PICTURE_SIDE` pixels per side."""
    image = Image.fromarray(pixels)
    image.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#000", alpha=0.08, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "vtadl"}):  # the same metrics give the same file
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
