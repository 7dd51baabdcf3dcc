"""Tables of the results in the terminal."""

import sys
from itertools import groupby

from rich.console import Console
from rich.table import Table

from benchmarks.case import OWN
from benchmarks.compare import Change
from benchmarks.results import Report, Result

_LEFT = ("mode", "memory", "provider")
_RIGHT = (
    "ms",
    "20-80 %",
    f"x {OWN}",
    "x fastest peer",
    "MB moved",
    "% of limit",
    "images/s",
    "peak MB",
    "first call s",
)


def wide_console() -> Console:
    """A console as wide as the terminal, or wide enough for a table if the output goes to a file."""
    return Console(width=None if sys.stdout.isatty() else 200)


def print_report(report: Report, console: Console) -> None:
    console.print(_limits_line(report))
    comparisons = [*report.comparisons(), *report.comparisons(sweeps=True)]
    for (operator, case), group in groupby(comparisons, key=lambda comparison: comparison[0][:2]):
        table = Table(title=f"{operator}: {case}", title_justify="left")
        for column in (*_LEFT, *_RIGHT):
            table.add_column(column, justify="left" if column in _LEFT else "right", no_wrap=True)
        table.add_column("notes")
        for (_, _, mode, regime), providers in group:
            for result in providers.values():
                table.add_row(mode, regime, result.provider, *_figures(result, providers.get(OWN)))
            table.add_section()
        console.print(table)


def _figures(result: Result, own: Result | None) -> list[str]:
    spread = own_ratio = ""
    if result.quantiles:
        spread = "-".join(_milliseconds(result.quantiles[name]) for name in ("20%", "80%"))
    if result.median and own and own.median:
        own_ratio = f"{result.median / own.median:.2f}"
    return [
        _milliseconds(result.median),
        spread,
        own_ratio,
        _number(result.times_fastest_peer, ".2f"),
        _number(result.read_bytes + result.written_bytes, ".4g", 1e-6),
        _number(result.fraction_of_limit, ".1f", 100),
        _number(result.images_per_second, ".4g"),
        _number(result.peak_bytes, ".4g", 1e-6),
        _number(result.first_call_seconds, ".1f"),
        _notes(result),
    ]


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{1e3 * seconds:.4g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def _number(value: float | None, spec: str, factor: float = 1) -> str:
    return "" if value is None else format(factor * value, spec)


def _notes(result: Result) -> str:
    if result.status == "disagrees":
        return f"not timed: differs from the reference by {result.error:.0e}"
    if result.status == "too slow":
        return "too slow to be timed again"
    if result.status != "timed":
        return f"{result.status}: {result.detail}"
    return f"slow, so timed {result.rounds} times only" if result.few_rounds else ""


def _limits_line(report: Report) -> str:
    limits = report.limits
    rates = ", ".join(f"{name} {1e-9 * limits[name]:.1f} GB/s" for name in ("read", "write", "copy"))
    return f"{report.machine}: {rates}, {1e-9 * limits['flops']:.0f} GFLOP/s in float32"


def print_changes(changes: list[Change], console: Console) -> None:
    if not changes:
        console.print("Nothing became faster or slower beyond noise.")
        return
    table = Table("operator", "case", "mode", "memory", "provider", "ms before", "ms now", "times as long")
    for result, before, now in changes:
        times = [_milliseconds(before), _milliseconds(now), f"{now / before:.2f}"]
        table.add_row(*result.comparison, result.provider, *times, style="red" if now > before else "green")
    console.print(table)
