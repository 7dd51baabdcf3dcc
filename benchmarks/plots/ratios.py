"""Plots of how much longer the peers take."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.allocator import FRESH, WARM
from benchmarks.case import OWN
from benchmarks.plots.style import colours
from benchmarks.results import Report, Result

# Results by case and provider, then by mode and regime.
Rows = dict[tuple[str, str], dict[tuple[str, str], Result]]

_ROW_INCHES = 0.22
_BAR_HEIGHT = 0.86
_PALE = 0.45


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
    figure.suptitle(f"{operator}: time as a multiple of {OWN}'s on {report.machine} (shorter is faster)")
    return figure


def _places(rows: Rows) -> dict[tuple[str, str], float]:
    """The position of each bar, with a gap between cases."""
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
        own = rows.get((case, OWN), {})
        ratios = {
            regime: cells[mode, regime].median / own[mode, regime].median  # type: ignore[operator]
            for regime in (FRESH, WARM)
            if (mode, regime) in cells and (mode, regime) in own
        }
        for position, (regime, ratio) in enumerate(ratios.items()):
            height = _BAR_HEIGHT / len(ratios)
            place = places[case, provider] + (position - (len(ratios) - 1) / 2) * height
            axis.barh(place, ratio, height, color=colour[provider], alpha=1 if regime == FRESH else _PALE)
        if ratios:
            medians = {regime: 1e3 * (cells[mode, regime].median or 0) for regime in ratios}
            text = _text(medians, " ms") if provider == OWN else _text(ratios)
            axis.text(max(ratios.values()) * 1.05, places[case, provider], text, va="center", fontsize=8)
    axis.set(title=mode, xscale="log", xlabel=f"times as long as {OWN}")
    axis.axvline(1, color="black", linewidth=0.8)
    axis.margins(x=0.25)
    axis.xaxis.set_major_formatter("{x:g}")


def _text(values: dict[str, float], unit: str = "") -> str:
    """The text of a bar: the values of all regimes."""
    texts = [f"{value:.3g}{unit}" if value < 1000 else f"{value:.0f}{unit}" for value in values.values()]
    return texts[0] if len(texts) == 1 else f"{texts[0]}, warm {texts[1]}"


def _label_cases(axis: Axes, places: dict[tuple[str, str], float]) -> None:
    groups: dict[str, list[float]] = {}
    for (case, _), place in places.items():
        groups.setdefault(case, []).append(place)
    centres = [sum(group) / len(group) for group in groups.values()]
    axis.set_yticks(centres, [case.replace(": ", "\n") for case in groups])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(max(places.values()) + 1, min(places.values()) - 1)


def _legend(figure: Figure, colour: dict[str, str], rows: Rows) -> None:
    handles = [plt.Rectangle((0, 0), 1, 1, color=value) for value in colour.values()]
    labels = list(colour)
    if {FRESH, WARM} <= {regime for cells in rows.values() for _, regime in cells}:
        handles.append(plt.Rectangle((0, 0), 1, 1, color="black", alpha=_PALE))
        labels.append("pale: both with warm memory")
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
