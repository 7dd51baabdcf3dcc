"""The tables of all results in docs/benchmarks.md."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.case import OWN
from benchmarks.peers import TRAINING, VALUE, fastest_peer, kind_of
from benchmarks.results import Report, Result

# Results of one case in one mode, by regime and provider.
Row = dict[str, dict[str, Result]]

_CAPTIONS = {VALUE: "value alone", TRAINING: "value and gradients"}


def sections(reports: Mapping[Path, Report]) -> str:
    """A section for each report; links lead from a page in docs/ to the folder of the results."""
    return "\n".join(_section(report, folder) for folder, report in reports.items())


def _section(report: Report, folder: Path) -> str:
    environment, packages = report.environment, report.environment["packages"]
    place = f"../benchmarks/results/{folder.name}"
    lines = [
        f"### {environment['gpu'] or environment['cpu']}",
        "",
        f"{_conditions(report)}, PyTorch {packages['torch']}, commit {environment['commit']}, "
        f"{environment['date']}.",
        f"The folder [{folder.name}]({place}) holds all figures and plots.",
        "",
        *_table(report, TRAINING),
        *_table(report, VALUE),
        *_rates(report),
        *(
            f"![{path.stem.replace('-', ' of ')}]({place}/{path.name})"
            for path in sorted(folder.glob("ratios-*.png"))
        ),
        "",
    ]
    return "\n".join(lines)


def _conditions(report: Report) -> str:
    if report.environment["gpu"]:
        return f"CUDA {report.environment['cuda']}"
    return f"{report.environment['threads']} threads, {report.environment['cpu_capability']}"


def _table(report: Report, kind: str) -> Iterator[str]:
    """A row for each case that has a mode of this kind; of several modes, the last computes the most."""
    regimes = report.regimes
    modes: dict[tuple[str, str], dict[str, Row]] = {}
    for (operator, case, mode, regime), providers in report.comparisons():
        if kind_of(mode) == kind:
            modes.setdefault((operator, case), {}).setdefault(mode, {})[regime] = providers
    if not modes:
        return
    yield (
        f"| {_CAPTIONS[kind]} | fastest peer | times faster ({' / '.join(regimes)} memory) "
        "| % of the machine's limit | peak memory, ours / the peer's |"
    )
    yield "| --- | --- | --- | --- | --- |"
    for (operator, case), rows in modes.items():
        yield _row(f"{operator}, {case}", list(rows.values())[-1], regimes)
    yield ""


def _row(title: str, row: Row, regimes: list[str]) -> str:
    fastest = {regime: fastest_peer(row.get(regime, {})) for regime in regimes}
    own = {regime: row.get(regime, {}).get(OWN) for regime in regimes}
    names = " / ".join(dict.fromkeys(peer.provider for peer in fastest.values() if peer)) or "none"
    return " | ".join(
        [
            f"| {title}",
            names,
            " / ".join(_times_faster(own[regime], fastest[regime]) for regime in regimes),
            " / ".join(_percent(own[regime]) for regime in regimes),
            " / ".join(_megabytes(result) for result in (own[regimes[0]], fastest[regimes[0]])) + " |",
        ]
    )


def _rates(report: Report) -> Iterator[str]:
    """Images per second by provider, for the cases that count images.

    The figures are those of the regime in which most providers were timed, and of several such regimes those
    of the last, which allocation disturbs least.
    """
    rates: dict[str, dict[str, Result]] = {}
    for (operator, case, *_), providers in report.comparisons():
        timed = {name: result for name, result in providers.items() if result.images_per_second}
        title = f"{operator}, {case}"
        if timed and len(timed) >= len(rates.get(title, {})):
            rates[title] = timed
    names = list(dict.fromkeys(name for providers in rates.values() for name in providers))
    if names:
        yield f"| images per second | {' | '.join(names)} | memory |"
        yield "| --- |" + " --- |" * (len(names) + 1)
        for title, providers in rates.items():
            cells = [_images_per_second(providers.get(name)) for name in names]
            yield f"| {title} | {' | '.join(cells)} | {next(iter(providers.values())).regime} |"
        yield ""


def _times_faster(own: Result | None, peer: Result | None) -> str:
    if own is None or peer is None or not own.median or not peer.median:
        return "not timed"
    return f"{peer.median / own.median:.3g}"


def _images_per_second(result: Result | None) -> str:
    rate = None if result is None else result.images_per_second
    return "not timed" if rate is None else f"{rate:.3g}"


def _percent(result: Result | None) -> str:
    fraction = None if result is None else result.fraction_of_limit
    return "-" if fraction is None else f"{100 * fraction:.0f}"


def _megabytes(result: Result | None) -> str:
    if result is None or result.peak_bytes is None:
        return "-"
    megabytes = 1e-6 * result.peak_bytes
    return f"{megabytes:.3g} MB" if megabytes < 999 else f"{1e-3 * megabytes:.3g} GB"
