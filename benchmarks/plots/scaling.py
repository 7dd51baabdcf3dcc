"""How time and memory grow."""

from collections.abc import Callable

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.plots.colours import colours, machine
from benchmarks.results import Report, Result

# Results of a sweep by provider, in the order of what varies.
Curves = dict[str, list[Result]]


def scaling(report: Report, operator: str) -> Figure | None:
    """A column for each quantity that varies: time above, memory below."""
    sweeps = {axis: curves for axis, curves in _sweeps(report, operator).items() if axis != "threads"}
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
    mode = next(iter(next(iter(sweeps.values())).values()))[0].mode
    figure.suptitle(f"{operator}, {mode}: how time and memory grow on {machine(report)}")
    return figure


def thread_scaling(report: Report) -> Figure | None:
    """How many times faster than with one thread, for each operator."""
    operators = dict.fromkeys(result.operator for result in report.results)
    sweeps = {operator: _sweeps(report, operator).get("threads") for operator in operators}
    swept = {operator: curves for operator, curves in sweeps.items() if curves}
    if not swept:
        return None
    figure, axes = plt.subplots(
        *(1, len(swept)), figsize=(5 * len(swept), 4), squeeze=False, layout="constrained"
    )
    for axis, (operator, curves) in zip(axes[0], swept.items(), strict=True):
        for provider, results in curves.items():
            threads = [result.threads for result in results]
            faster = [(results[0].median or 0) / (result.median or 1) for result in results]
            axis.plot(threads, faster, "o-", color=colours(report, operator)[provider], label=provider)
        axis.plot(threads, threads, ":", color="black", label="ideal")
        axis.set(title=operator, xlabel="threads", ylabel="times faster than with one")
        axis.set_xticks(threads)
        axis.legend()
    figure.suptitle(f"With more threads, on {machine(report)}")
    return figure


def _sweeps(report: Report, operator: str) -> dict[str, Curves]:
    sweeps: dict[str, Curves] = {}
    last_regime = report.regimes[-1]
    for result in report.results:
        if result.operator == operator and result.sweep and result.regime == last_regime and result.median:
            sweeps.setdefault(result.sweep[0], {}).setdefault(result.provider, []).append(result)
    return sweeps


def _draw(axis: Axes, curves: Curves, colour: dict[str, str], figure_of: Callable[[Result], float]) -> None:
    drawn = False
    for provider, results in curves.items():
        points = [(result.sweep[1], figure_of(result)) for result in results if result.sweep]
        points = [(x, y) for x, y in points if y > 0]
        if points:
            axis.plot(*zip(*points, strict=True), "o-", color=colour[provider], label=provider)
            axis.set_xticks([x for x, _ in points], [f"{x:g}" for x, _ in points], minor=False)
            drawn = True
    axis.set_visible(drawn)
    if drawn:
        axis.set(xscale="log", yscale="log")
        axis.minorticks_off()
        ticks = [result.sweep[1] for result in next(iter(curves.values())) if result.sweep]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.grid(alpha=0.3)
