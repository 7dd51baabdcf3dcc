"""`vtadl data`: what is in a data set."""

from collections.abc import Sequence

from rich.console import Console

from vtadl.cli.parsing import Parser
from vtadl.data.check import changes_since, check
from vtadl.data.module import ImageDataModule
from vtadl.errors import InputError


def run(arguments: Sequence[str]) -> None:
    """Counts the images of a data set, and checks its files if asked to.

    Raises:
        InputError: If there is a problem, after all of them are printed.
    """
    parser = Parser("vtadl data", description="Counts the images of a data set, and checks its files.")
    parser.add_argument("--config", action="config", help="YAML file with the same options.")
    parser.add_subclass_arguments(
        ImageDataModule,
        "data",
        required=True,
        help="The data, as for `vtadl fit`: MVTecAD, BTAD, Folder, MNISTDigit or TextureDefects.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="Read every file: sizes, unreadable and unused ones, wrong or doubtful masks, copies.",
    )
    parser.add_argument(
        "--run",
        type=str | None,
        default=None,
        help="Folder of a run: name the images that have changed since it was trained, too.",
    )
    options = parser.instantiate_classes(parser.parse_args(list(arguments)))
    report = check(options.data, read=options.check)
    if options.run is not None:
        report.problems += changes_since(options.run, options.data)
    Console().print(report)
    if report.problems:
        where = getattr(options.data, "root", type(options.data).__name__)
        raise InputError(f"{report.verdict} in {where}")
