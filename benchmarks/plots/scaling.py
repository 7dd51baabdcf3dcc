"""Plots of how time and memory grow."""

from collections.abc import Callable

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.plots.style import colours
from benchmarks.results import Report, Result
from benchmarks.sweeps import THREADS

# Results by provider, and by the values of the quantity that varies.
Curves = dict[str, dict[int, Result]]


def scaling(report: Report, operator: str) -> Figure | None:
    """A column for each quantity that varies: time above, memory below."""
    sweeps = {axis: curves for axis, curves in _sweeps(report, operator).items() if axis != THREADS}
    if not sweeps:
        return None
    size = (3.6 * len(sweeps) + 1, 6.5)
    figure, axes = plt.subplots(
        2, len(sweeps), figsize=size, squeeze=False, sharex="col", layout="constrained"
    )
    colour = colours(report, operator)
    for column, (axis, curves) in enumerate(sweeps.items()):
        _draw(axes[0][column], curves, colour, lambda result: 1e3 * (result.median or 0))
        _draw(axes[1][column], curves, colour, lambda result: 1e-6 * (result.peak_bytes or 0))
        axes[0][column].set(title=axis)
        axes[1][column].set(xlabel=axis)
    axes[0][0].set_ylabel("milliseconds")
    axes[1][0].set_ylabel("peak memory beyond the input, MB")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    mode = next(result.mode for result in report.results if result.operator == operator and result.sweep)
    figure.suptitle(f"{operator}, {mode}: how time and memory grow on {report.machine}")
    return figure


def thread_scaling(report: Report) -> Figure | None:
    """The speed relative to one thread, for each operator."""
    operators = dict.fromkeys(result.operator for result in report.results)
    sweeps = {operator: _sweeps(report, operator).get(THREADS) for operator in operators}
    swept = {operator: curves for operator, curves in sweeps.items() if curves}
    if not swept:
        return None
    figure, axes = plt.subplots(
        *(1, len(swept)), figsize=(5 * len(swept), 4), squeeze=False, layout="constrained"
    )
    for axis, (operator, curves) in zip(axes[0], swept.items(), strict=True):
        for provider, results in curves.items():
            threads = list(results)
            medians = [result.median or 1 for result in results.values()]
            faster = [medians[0] / median for median in medians]
            axis.plot(threads, faster, "o-", color=colours(report, operator)[provider], label=provider)
        axis.plot(threads, threads, ":", color="black", label="ideal")
        axis.set(title=operator, xlabel="threads", ylabel="times faster than with one")
        axis.set_xticks(threads)
        axis.legend()
    figure.suptitle(f"With more threads, on {report.machine}")
    return figure


def _sweeps(report: Report, operator: str) -> dict[str, Curves]:
    """The quantities that were timed at more than one value, in the order of the values."""
    sweeps: dict[str, Curves] = {}
    for result in report.results:
        if result.operator == operator and result.regime == report.regimes[-1] and result.median:
            for axis, value in (result.sweep or {}).items():
                sweeps.setdefault(axis, {}).setdefault(result.provider, {})[value] = result
    ordered = {
        axis: {provider: dict(sorted(results.items())) for provider, results in curves.items()}
        for axis, curves in sweeps.items()
    }
    return {axis: curves for axis, curves in ordered.items() if max(map(len, curves.values())) > 1}


def _draw(axis: Axes, curves: Curves, colour: dict[str, str], figure_of: Callable[[Result], float]) -> None:
    drawn = False
    for provider, results in curves.items():
        points = [(value, figure_of(result)) for value, result in results.items()]
        points = [(x, y) for x, y in points if y > 0]
        if points:
            axis.plot(*zip(*points, strict=True), "o-", color=colour[provider], label=provider)
            drawn = True
    axis.set_visible(drawn)
    if drawn:
        axis.set(xscale="log", yscale="log")
        axis.minorticks_off()
        ticks = sorted({value for results in curves.values() for value in results})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.grid(alpha=0.3)
