"""The table of headline figures in README.md."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers import TRAINING, VALUE, Pair, least_favourable_pairs
from benchmarks.results import Report


class Headline(NamedTuple):
    """A row: what is computed, and the operator and case that each of its columns is taken from."""

    title: str
    sources: Mapping[str, tuple[str, str]]

    @classmethod
    def of_one_case(cls, title: str, operator: str, case: str) -> "Headline":
        return cls(title, {VALUE: (operator, case), TRAINING: (operator, case)})


# README.md states this rule of selection: two mixtures of the detector's sizes, the first SSIM case, and the
# detector as a whole.
HEADLINES = (
    Headline.of_one_case("`gmm_nll`, head of the published model", "gmm", "wide head"),
    Headline.of_one_case("`gmm_nll`, gated dictionary", "gmm", "gated dictionary"),
    Headline.of_one_case("`ssim`", "ssim", "images"),
    Headline("detector", {VALUE: ("prediction", "small"), TRAINING: ("training_step", "small")}),
)


def table(reports: Mapping[Path, Report]) -> str:
    """A row for each headline that a report has results for."""
    header = f"| machine | what | {VALUE}: times faster | {TRAINING}: times faster | fastest peer | command |"
    rows = [row for report in reports.values() for row in _rows(report)]
    return "\n".join([header, "| --- | --- | --- | --- | --- | --- |", *rows, ""])


def _rows(report: Report) -> Iterator[str]:
    pairs = {
        (operator, case.partition(":")[0], kind): pair
        for (operator, case), kinds in least_favourable_pairs(report).items()
        for kind, pair in kinds.items()
    }
    for headline in HEADLINES:
        found = {kind: pairs.get((*source, kind)) for kind, source in headline.sources.items()}
        timed = [pair for pair in found.values() if pair is not None]
        if timed:
            peers = " / ".join(dict.fromkeys(pair.peer.provider for pair in timed))
            cells = [
                f"{headline.title}: {_sizes(timed)}",
                _cell(found[VALUE]),
                _cell(found[TRAINING]),
                peers,
                f"`{_command(report, [operator for operator, _ in headline.sources.values()])}`",
            ]
            yield f"| {report.machine} | {' | '.join(cells)} |"


def _sizes(pairs: Iterable[Pair]) -> str:
    return " / ".join(dict.fromkeys(pair.own.size for pair in pairs))


def _cell(pair: Pair | None) -> str:
    if pair is None:
        return "not timed"
    return f"{pair.times_faster:.2f} ({1e3 * (pair.own.median or 0):.3g} ms)"


def _command(report: Report, operators: Iterable[str]) -> str:
    device = " --device cuda" if report.environment["gpu"] else ""
    return f"python -m benchmarks{device} --operators {' '.join(dict.fromkeys(operators))}"
