"""`vtadl data`: counts and checks of a data set."""

from collections.abc import Sequence

from rich.console import Console

from vtadl.cli.data_modules import data_modules
from vtadl.cli.parsing import Parser
from vtadl.data.check import changes_since, check
from vtadl.data.module import ImageDataModule
from vtadl.errors import InputError


def run(arguments: Sequence[str]) -> None:
    """Runs the command, and prints its report.

    Raises:
        InputError: If there is a problem; it is raised after all problems are printed.
    """
    parser = Parser(
        "vtadl data",
        usage="vtadl data --data NAME --data.root FOLDER [--check] [--run RUN] [options]",
        description="Counts the images of a data set and, with --check, reads and checks every file. "
        "`--data.help NAME` lists the options of a data set.",
    )
    parser.add_argument("--config", action="config", help="YAML file with these options.")
    parser.add_subclass_arguments(
        ImageDataModule,
        "data",
        required=True,
        help=f"Data set, as in `vtadl fit`: {data_modules()}.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="Read every file, and report sizes, unreadable and unused files, wrong masks and copies.",
    )
    parser.add_argument(
        "--run",
        type=str | None,
        default=None,
        help="Folder of a run; also report the images that have changed since it was trained.",
    )
    options = parser.instantiate_classes(parser.parse_args(list(arguments)))
    report = check(options.data, read=options.check)
    if options.run is not None:
        report.problems += changes_since(options.run, options.data)
    Console().print(report)
    if report.problems:
        location = getattr(options.data, "root", type(options.data).__name__)
        raise InputError(f"{report.verdict} in {location}")
