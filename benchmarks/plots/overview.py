"""The chart of README.md: how many times faster than the fastest peer, on every machine with results."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.case import OWN
from benchmarks.peers import TRAINING, VALUE, Pair, least_favourable_pairs
from benchmarks.plots.style import OWN_COLOUR, STYLE
from benchmarks.results import Report
from vtadl.common.files import atomic_path

# The chart carries the fingerprint of its figures as a text of the PNG file under this name.
FINGERPRINT = "Figures"

_FORWARD_COLOUR = "#0072B2"
_ROW_INCHES = 0.19


def draw(reports: Mapping[Path, Report], path: Path) -> None:
    with plt.rc_context(STYLE), atomic_path(path) as temporary:
        figure = overview(reports)
        metadata = {FINGERPRINT: fingerprint(reports), "Software": None}
        figure.savefig(temporary, dpi=130, bbox_inches="tight", metadata=metadata)
        plt.close(figure)


def fingerprint(reports: Mapping[Path, Report]) -> str:
    """Changes when a figure of the chart does."""
    figures = [
        (report.machine, *key, kind, f"{pair.times_faster:.4g}")
        for report in reports.values()
        for key, kinds in least_favourable_pairs(report).items()
        for kind, pair in kinds.items()
    ]
    return hashlib.sha256(repr(figures).encode()).hexdigest()


def overview(reports: Mapping[Path, Report]) -> Figure:
    """A panel for each machine, and in it a bar for training and a dot for the forward pass of each case."""
    pairs = {report.machine: least_favourable_pairs(report) for report in reports.values()}
    rows = max(map(len, pairs.values()))
    size = (5.6 * len(pairs), 1.1 + _ROW_INCHES * rows)
    figure, axes = plt.subplots(1, len(pairs), figsize=size, squeeze=False, layout="constrained")
    for axis, (name, cases) in zip(axes[0], pairs.items(), strict=True):
        _draw_panel(axis, cases, rows)
        axis.set_title(name, fontsize=10)
    marks = axes[0][0].get_legend_handles_labels()
    figure.legend(*marks, loc="outside lower center", ncols=2)
    figure.suptitle(f"{OWN}: times faster than the fastest peer", fontsize=11)
    return figure


def _draw_panel(axis: Axes, cases: Mapping[tuple[str, str], Mapping[str, Pair]], rows: int) -> None:
    training, forward = (
        {row: kinds[kind].times_faster for row, kinds in enumerate(cases.values()) if kind in kinds}
        for kind in (TRAINING, VALUE)
    )
    axis.barh(
        list(training), [ratio - 1 for ratio in training.values()], 0.7, 1, color=OWN_COLOUR, label=TRAINING
    )
    axis.plot(list(forward.values()), list(forward), "o", color=_FORWARD_COLOUR, markersize=4, label=VALUE)
    labels = [f"{operator}, {case.partition(':')[0]}" for operator, case in cases]
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.tick_params(axis="y", length=0)
    axis.set(xscale="log", ylim=(rows - 0.3, -0.7))
    axis.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axis.minorticks_off()
    axis.grid(axis="x", alpha=0.3)
    axis.axvline(1, color="black", linewidth=0.8)
