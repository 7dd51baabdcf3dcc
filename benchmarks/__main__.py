"""`python -m benchmarks [--device cuda]`: measures every operator, prints a table and writes it as JSON."""

import argparse
import datetime
import json
import os
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import gmm, ssim
from benchmarks.measure import WARM_MEMORY, Result, environment, measure

RESULTS = Path(__file__).parent / "results"
OPERATORS = {"gmm": gmm, "ssim": ssim}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--output", type=Path, help="a JSON file; by default in benchmarks/results")
    parser.add_argument(
        "--warm", action="store_true", help="keep freed memory, so that results cost no page faults"
    )
    parser.add_argument("--only", choices=OPERATORS, help="one operator alone")
    arguments = parser.parse_args()
    if arguments.warm and not WARM_MEMORY.items() <= os.environ.items():
        # The allocator reads its settings when the process starts.
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], os.environ | WARM_MEMORY
        )
    torch.manual_seed(0)
    results = []
    for name, operator in OPERATORS.items():
        if arguments.only in (None, name):
            for case in track(operator.cases(arguments.device), description=name):
                results += measure(case)
    print_table(results)
    name = f"{arguments.device.type}-warm" if arguments.warm else arguments.device.type
    output = arguments.output or RESULTS / f"{name}.json"
    write(output, results, environment(arguments.device))
    print(f"written to {output}")


def print_table(results: list[Result]) -> None:
    table = Table("case", "mode", "provider", "median ms", "times vtadl_ext", "relative error")
    own = {(r.case, r.mode): r.quantiles["50%"] for r in results if r.provider == "vtadl_ext" and r.quantiles}
    for result in results:
        median = result.quantiles["50%"] if result.quantiles else None
        table.add_row(
            *(result.case, result.mode, result.provider),
            f"{1e3 * median:.3f}" if median else "disagrees",
            f"{median / own[result.case, result.mode]:.2f}" if median else "",
            f"{result.error:.1e}",
        )
    Console().print(table)


def write(path: Path, results: list[Result], machine: dict[str, object]) -> None:
    """Whole or not at all: a run that is killed leaves the file before it."""
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    report = {"date": date, "environment": machine, "results": [result._asdict() for result in results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
