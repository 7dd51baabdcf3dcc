"""Plots of a run."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks.plots.ratios import ratios
from benchmarks.plots.roofline import roofline
from benchmarks.plots.scaling import scaling, thread_scaling
from benchmarks.plots.style import STYLE
from benchmarks.results import Report
from vtadl.common.files import atomic_path


def draw(report: Report, folder: Path) -> Iterator[Path]:
    """Writes the plots that the report has results for."""
    for name, plot in _plots(report).items():
        with plt.rc_context(STYLE):
            figure = plot()
            if figure is not None:
                with atomic_path(folder / f"{name}.png") as path:
                    figure.savefig(path, dpi=150, bbox_inches="tight")
                plt.close(figure)
                yield folder / f"{name}.png"


def _plots(report: Report) -> dict[str, Callable[[], Figure | None]]:
    plots: dict[str, Callable[[], Figure | None]] = {}
    operators = dict.fromkeys(result.operator for result in report.results)
    plots |= {f"ratios-{operator}": partial(ratios, report, operator) for operator in operators}
    plots["roofline"] = partial(roofline, report)
    plots |= {f"scaling-{operator}": partial(scaling, report, operator) for operator in operators}
    plots["threads"] = partial(thread_scaling, report)
    return plots
