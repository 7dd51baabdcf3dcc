"""A plot of how close the operators come to the limits of the machine."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.case import OWN
from benchmarks.peers import fastest_peer
from benchmarks.results import Report, Result

_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")


class Point(NamedTuple):
    """An operator in one case, and its fastest peer there."""

    label: str
    operator: str
    own: Result
    peer: Result | None


def roofline(report: Report) -> Figure | None:
    """Operations per second over operations per byte, with the operator and its fastest peer joined."""
    points = _points(report)
    if not points:
        return None
    figure, axis = plt.subplots(figsize=(11, 6), layout="constrained")
    operators = list(dict.fromkeys(point.operator for point in points))
    for point in points:
        _draw_point(axis, point, _COLOURS[operators.index(point.operator) % len(_COLOURS)])
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="operations per byte that has to be moved",
        ylabel="operations per second",
        title=f"How close to the limits of {report.machine}: value and gradients",
    )
    _draw_roof(axis, report.limits, min(_intensity(point.own) for point in points))
    _number_points(axis, points)
    axis.legend(*_legend(operators), loc="lower right")
    return figure


def _points(report: Report) -> list[Point]:
    """A point for each case, in the mode that computes the most, which comes last."""
    points: dict[tuple[str, str], Point] = {}
    last_regime = report.regimes[-1]
    for (operator, case, _, regime), providers in report.comparisons():
        own = providers.get(OWN)
        if regime != last_regime or own is None or not own.median or operator == "training_step":
            continue
        label = f"{operator}, {case.split(':')[0]}"
        points[operator, case] = Point(label, operator, own, fastest_peer(providers))
    return list(points.values())


def _intensity(result: Result) -> float:
    return result.flops / (result.read_bytes + result.written_bytes)


def _rate(result: Result) -> float:
    assert result.median is not None
    return result.flops / result.median


def _draw_point(axis: Axes, point: Point, colour: str) -> None:
    x, y = _intensity(point.own), _rate(point.own)
    if point.peer is not None:
        axis.plot([x, x], [_rate(point.peer), y], color=colour, linewidth=0.8, alpha=0.6)
        axis.plot(x, _rate(point.peer), "o", color=colour, markerfacecolor="white", markersize=5)
    axis.plot(x, y, "o", color=colour, markersize=7)


def _number_points(axis: Axes, points: list[Point]) -> None:
    """Draws numbers beside the points, stacked where points are close, and the key to the numbers."""
    to_pixels, place = axis.transData.transform, axis.transData.inverted().transform
    pixels = {number: to_pixels((_intensity(p.own), _rate(p.own))) for number, p in enumerate(points, 1)}
    taken: list[tuple[float, float]] = []
    for number, (x, y) in sorted(pixels.items(), key=lambda item: item[1][1]):
        height = y
        while any(abs(x - other_x) < 18 and abs(height - other_y) < 11 for other_x, other_y in taken):
            height += 1
        taken.append((x, height))
        axis.annotate(
            str(number),
            tuple(place((x, y))),
            (8, 0.72 * (height - y) - 3),
            textcoords="offset points",
            fontsize=8,
        )
    key = "\n".join(f"{number:2d}  {point.label}" for number, point in enumerate(points, 1))
    axis.text(1.02, 1, key, transform=axis.transAxes, va="top", fontsize=9)


def _draw_roof(axis: Axes, limits: dict[str, float], least_intensity: float) -> None:
    ridge = limits["flops"] / limits["read"]
    x = np.geomspace(min(least_intensity, ridge) / 4, max(axis.get_xlim()[1], 4 * ridge), 200)
    axis.plot(x, np.minimum(x * limits["read"], limits["flops"]), color="black", linewidth=1.5)
    axis.annotate(
        f"{1e-9 * limits['read']:.0f} GB/s read",
        (x[0], x[0] * limits["read"]),
        (14, -6),
        textcoords="offset points",
    )
    axis.text(x[-1], limits["flops"] * 1.1, f"{1e-9 * limits['flops']:.0f} GFLOP/s", ha="right")
    axis.set_xlim(x[0] / 1.5, x[-1] * 1.5)


def _legend(operators: list[str]) -> tuple[list[plt.Artist], list[str]]:
    pairs = list(zip(operators, _COLOURS, strict=False))
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=colour) for _, colour in pairs]
    hollow = plt.Line2D([], [], marker="o", linestyle="", color="black", markerfacecolor="white")
    return [*handles, hollow], [f"{OWN}: {name}" for name in operators] + ["the fastest peer"]
