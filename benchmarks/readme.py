"""`python -m benchmarks.readme` writes the results that are kept here into README.md, between two markers."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks import results
from benchmarks.case import OWN
from benchmarks.results import FILE, Report, Result
from vtadl.files import atomic_path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
KEPT = Path(__file__).parent / "results"

START, END = "<!-- benchmarks: written by python -m benchmarks.readme -->", "<!-- end of benchmarks -->"

# Results of one case in its fullest mode, by regime and provider.
Row = dict[str, dict[str, Result]]


def main() -> None:
    text = updated(README.read_text(), KEPT)
    with atomic_path(README) as path:
        path.write_text(text)


def updated(text: str, kept: Path) -> str:
    """The text with the section of results anew.

    Raises:
        ValueError: if the markers are missing, or a file of results cannot be read.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"README.md must hold the markers {START} and {END}")
    files = sorted(path for path in kept.glob(f"*/{FILE}") if path.parent.name != "local")
    sections = "\n".join(_section(results.read(path), path.parent) for path in files)
    return f"{before}{start}\n{sections}{end}{after}"


def _section(report: Report, folder: Path) -> str:
    environment, packages = report.environment, report.environment["packages"]
    place = f"benchmarks/results/{folder.name}"
    regimes = report.regimes
    lines = [
        f"### {environment['gpu'] or environment['cpu']}",
        "",
        f"{_conditions(report)}, PyTorch {packages['torch']}, commit {environment['commit']}, "
        f"{environment['date']}: all figures and plots are in "
        f"[{place}]({place}).",
        "",
        f"| value and gradients | fastest peer | times faster ({' / '.join(regimes)} memory) "
        "| % of the machine's limit | peak memory, ours / the peer's |",
        "| --- | --- | --- | --- | --- |",
        *_rows(report, regimes),
        "",
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


def _rows(report: Report, regimes: list[str]) -> Iterator[str]:
    modes: dict[tuple[str, str], dict[str, Row]] = {}
    for (operator, case, mode, regime), providers in report.comparisons():
        modes.setdefault((operator, case), {}).setdefault(mode, {})[regime] = providers
    for (operator, case), rows in modes.items():
        yield _row(f"{operator}, {case}", list(rows.values())[-1], regimes)


def _row(title: str, row: Row, regimes: list[str]) -> str:
    fastest = {regime: _fastest_peer(row.get(regime, {})) for regime in regimes}
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
    """Images per second by provider, where these are of interest.

    With the memory that disturbs least among those in which most providers were timed.
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


def _fastest_peer(providers: dict[str, Result]) -> Result | None:
    timed = [result for result in providers.values() if result.median and result.provider != OWN]
    return min(timed, key=lambda result: result.median or 0.0, default=None)


def _times_faster(own: Result | None, peer: Result | None) -> str:
    if own is None or peer is None or not own.median or not peer.median:
        return "not timed"
    return f"{peer.median / own.median:.3g}"


def _images_per_second(result: Result | None) -> str:
    if result is None or result.images_per_second is None:
        return "not timed"
    return f"{result.images_per_second:.3g}"


def _percent(result: Result | None) -> str:
    if result is None or result.fraction_of_limit is None:
        return "-"
    return f"{100 * result.fraction_of_limit:.0f}"


def _megabytes(result: Result | None) -> str:
    if result is None or result.peak_bytes is None:
        return "-"
    megabytes = 1e-6 * result.peak_bytes
    return f"{megabytes:.3g} MB" if megabytes < 999 else f"{1e-3 * megabytes:.3g} GB"


if __name__ == "__main__":
    main()
