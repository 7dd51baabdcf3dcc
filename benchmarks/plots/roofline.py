"""How near the operators come to what the machine can do."""

from collections.abc import Iterator
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.allocator import WARM
from benchmarks.case import OWN
from benchmarks.plots.colours import machine
from benchmarks.results import Report, Result

_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")


class Point(NamedTuple):
    """An operator in one case and mode, and its fastest peer there."""

    label: str
    operator: str
    own: Result
    peer: Result | None


def roofline(report: Report) -> Figure | None:
    """Operations per second over operations per byte, with the operator and its fastest peer joined."""
    points = list(_points(report))
    if not points:
        return None
    figure, axis = plt.subplots(figsize=(11, 6), layout="constrained")
    operators = list(dict.fromkeys(point.operator for point in points))
    for number, point in enumerate(points, 1):
        _draw_point(axis, number, point, _COLOURS[operators.index(point.operator) % len(_COLOURS)])
    _draw_roof(axis, report.limits)
    key = [f"{number:2d}  {point.label}" for number, point in enumerate(points, 1)]
    axis.text(1.02, 1, "\n".join(key), transform=axis.transAxes, va="top", fontsize=8)
    axis.legend(*_legend(operators), loc="lower right")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="operations per byte that has to be moved",
        ylabel="operations per second",
        title=f"How near to the limits of {machine(report)}",
    )
    return figure


def _points(report: Report) -> Iterator[Point]:
    for (operator, case, mode, regime), providers in report.comparisons():
        own = providers.get(OWN)
        if regime != WARM or own is None or not own.median or operator == "training_step":
            continue
        peers = [result for result in providers.values() if result.median and result.provider != OWN]
        fastest = min(peers, key=lambda peer: peer.median or 0.0, default=None)
        yield Point(f"{operator}, {case.split(':')[0]}, {mode}", operator, own, fastest)


def _intensity(result: Result) -> float:
    return result.flops / (result.read_bytes + result.written_bytes)


def _rate(result: Result) -> float:
    assert result.median is not None
    return result.flops / result.median


def _draw_point(axis: Axes, number: int, point: Point, colour: str) -> None:
    x, y = _intensity(point.own), _rate(point.own)
    if point.peer is not None:
        axis.plot([x, x], [_rate(point.peer), y], color=colour, linewidth=0.8, alpha=0.6)
        axis.plot(x, _rate(point.peer), "o", color=colour, markerfacecolor="white", markersize=5)
    axis.plot(x, y, "o", color=colour, markersize=7)
    offset = (6 if number % 2 else -6, 2)
    align = "left" if number % 2 else "right"
    axis.annotate(str(number), (x, y), offset, textcoords="offset points", ha=align, fontsize=8)


def _draw_roof(axis: Axes, limits: dict[str, float]) -> None:
    left, right = axis.get_xlim()
    x = np.geomspace(max(left, 1e-3), max(right, 4 * limits["flops"] / limits["read"]), 200)
    axis.plot(x, np.minimum(x * limits["read"], limits["flops"]), color="black", linewidth=1.5)
    axis.text(x[0], x[0] * limits["read"] * 1.4, f" {1e-9 * limits['read']:.0f} GB/s read", fontsize=9)
    axis.text(x[-1], limits["flops"] * 1.1, f"{1e-9 * limits['flops']:.0f} GFLOP/s", ha="right", fontsize=9)


def _legend(operators: list[str]) -> tuple[list[plt.Artist], list[str]]:
    pairs = list(zip(operators, _COLOURS, strict=False))
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=colour) for _, colour in pairs]
    hollow = plt.Line2D([], [], marker="o", linestyle="", color="black", markerfacecolor="white")
    return [*handles, hollow], [f"{OWN}: {name}" for name in operators] + ["the fastest peer"]
