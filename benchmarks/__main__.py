"""Measures the operators and their peers on this machine, prints a table, and writes JSON and plots."""

import argparse
import sys
from pathlib import Path

import torch

from benchmarks import compare, plots, results, table
from benchmarks.case import OWN, Level
from benchmarks.operators import OPERATORS
from benchmarks.results import Report
from benchmarks.run import run

LOCAL = Path(__file__).parent / "results" / "local"


def main() -> None:
    arguments = _parser().parse_args()
    before: Report | None = arguments.compare
    level: Level = "smoke" if arguments.smoke else "quick" if arguments.quick else "full"
    # The smoke cases are too small for several threads, which would only wait for each other.
    threads = 1 if arguments.smoke else arguments.threads
    for report in run(arguments.operators, level, arguments.device, threads):
        if not arguments.smoke:
            written = results.write(report, arguments.output)
    console = table.wide_console()
    if not arguments.smoke:
        table.print_report(report, console)
        console.print(f"written: {written}")
        for path in plots.draw(report, arguments.output):
            console.print(f"written: {path}")
    if before is not None:
        table.print_changes(compare.changes(report, before), console)
    failures = [f for f in report.failures() if arguments.smoke or f.provider == OWN]
    sys.exit("\n".join(f"{f.operator}, {f.case}, {f.provider}: {f.status} {f.detail}" for f in failures) or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--output", type=Path, default=LOCAL, help="folder of the results (%(default)s)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda")
    parser.add_argument("--operators", nargs="+", choices=OPERATORS, default=list(OPERATORS), metavar="NAME")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="on the CPU (%(default)s)"
    )
    parser.add_argument(
        "--compare", type=_results, metavar="JSON", help="list what changed since these results"
    )
    level = parser.add_mutually_exclusive_group()
    level.add_argument(
        "--quick",
        action="store_true",
        help="a few cases, each in the mode that computes the most and in fresh memory, in two minutes",
    )
    level.add_argument("--smoke", action="store_true", help="every provider once, on tiny inputs")
    return parser


def _results(path: str) -> Report:
    """Reads the file at once, so that a fault in it is not reported after twenty minutes only."""
    try:
        return results.read(Path(path))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    main()
