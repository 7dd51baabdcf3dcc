"""How much longer the peers take."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.allocator import FRESH, WARM
from benchmarks.case import OWN
from benchmarks.plots.colours import colours, machine
from benchmarks.results import Report, Result

# Results by case and provider, then by mode and regime.
Rows = dict[tuple[str, str], dict[tuple[str, str], Result]]

_ROW_INCHES = 0.22


def ratios(report: Report, operator: str) -> Figure | None:
    """A group of bars for each case, a bar for each provider, a column for each mode."""
    rows: Rows = {}
    for (name, case, mode, regime), providers in report.comparisons():
        for provider, result in providers.items():
            if name == operator and result.median is not None:
                rows.setdefault((case, provider), {})[mode, regime] = result
    if not rows:
        return None
    modes = list(dict.fromkeys(mode for cells in rows.values() for mode, _ in cells))
    places = _places(rows)
    size = (3 + 4 * len(modes), 1.6 + _ROW_INCHES * max(places.values()))
    figure, axes = plt.subplots(1, len(modes), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, mode in zip(axes[0], modes, strict=True):
        _draw_bars(axis, mode, rows, places, colours(report, operator))
    _label_cases(axes[0][0], places)
    _legend(figure, colours(report, operator), rows)
    figure.suptitle(f"{operator}: time as a multiple of {OWN}'s on {machine(report)} (shorter is faster)")
    return figure


def _places(rows: Rows) -> dict[tuple[str, str], float]:
    """Where each bar is, with a gap between cases."""
    places: dict[tuple[str, str], float] = {}
    place, last = 0.0, None
    for case, provider in rows:
        place += 1.0 if case == last else 2.0
        places[case, provider], last = place, case
    return places


def _draw_bars(
    axis: Axes, mode: str, rows: Rows, places: dict[tuple[str, str], float], colour: dict[str, str]
) -> None:
    for (case, provider), cells in rows.items():
        own = {regime: rows.get((case, OWN), {}).get((mode, regime)) for regime in (FRESH, WARM)}
        ratio = {
            regime: result.median / reference.median
            for regime, reference in own.items()
            if (result := cells.get((mode, regime))) and result.median and reference and reference.median
        }
        if not ratio:
            continue
        bar = ratio.get(FRESH, ratio.get(WARM))
        place = places[case, provider]
        axis.barh(place, bar, height=0.85, color=colour[provider])
        text = f" {bar:.3g}"
        if provider == OWN:
            text = f" {1e3 * next(r.median for r in own.values() if r):.3g} ms"
        elif FRESH in ratio and WARM in ratio:
            axis.plot(ratio[WARM], place, "o", color="black", markersize=3.5)
        axis.text(max(ratio.values()) * 1.03, place, text, va="center", fontsize=8)
    axis.set(title=mode, xscale="log", xlabel=f"times as long as {OWN}")
    axis.axvline(1, color="black", linewidth=0.8)
    axis.margins(x=0.15)
    axis.xaxis.set_major_formatter("{x:g}")


def _label_cases(axis: Axes, places: dict[tuple[str, str], float]) -> None:
    groups: dict[str, list[float]] = {}
    for (case, _), place in places.items():
        groups.setdefault(case, []).append(place)
    centres = [sum(group) / len(group) for group in groups.values()]
    axis.set_yticks(centres, [case.replace(": ", "\n") for case in groups])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(max(places.values()) + 1, min(places.values()) - 1)


def _legend(figure: Figure, colour: dict[str, str], rows: Rows) -> None:
    handles: list[plt.Artist] = [plt.Rectangle((0, 0), 1, 1, color=c) for c in colour.values()]
    labels = list(colour)
    if {FRESH, WARM} <= {regime for cells in rows.values() for _, regime in cells}:
        handles.append(plt.Line2D([], [], marker="o", color="black", linestyle="", markersize=3.5))
        labels.append("both with warm memory")
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
