"""The `vtadl` command."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vtadl.errors import DivergenceError, InputError, UsageError, input_error

MOST_ALIASES = 16  # in a file of settings: aliases of aliases multiply what is read

HELP = """usage: vtadl COMMAND [options]

VT-ADL finds anomalies in images: it learns from normal images alone, gives every new image a score, and
shows in a map where it is unusual.

  vtadl demo                          train and test on embedded photographs, write a report
  vtadl fit --config small --data MVTecAD --data.root parts --output runs/parts
                                      train on the images of a folder; the run is kept in runs/parts
  vtadl fit --resume runs/parts       go on where that run stopped
  vtadl test runs/parts               test the detector of that run
  vtadl report runs/parts             test it, and write a page with figures, curves and pictures
  vtadl predict --ckpt runs/parts new/*.png -o out
                                      scores, anomaly maps and masks of images, folders of them, or patterns
  vtadl data --check --data MVTecAD --data.root parts
                                      counts, sizes, unreadable files, wrong masks, duplicates
  vtadl export --ckpt runs/parts --format onnx -o parts.onnx
                                      one program from pixels to decision, for ONNX Runtime or PyTorch
  vtadl reproduce mnist --root mnist -o reproduced
                                      the paper's protocols (mnist, mvtec), with a table beside its figures

`vtadl COMMAND --help` lists the options of a command, `vtadl --version` says which one this is.
--config takes a YAML file or one of: {configs}
A --ckpt may be a checkpoint or the folder of a run, whose best one is taken.

exit status: 0 all is well; 1 an input cannot be used; 2 wrong usage; 3 some images could not be read, and the
others were scored; 4 training diverged; 130 interrupted (go on with --resume)
"""

PARTLY_READ, DIVERGED, INTERRUPTED = 3, 4, 130
TOO_LARGE = "allocate|out of memory|not enough memory|Invalid buffer size|overflow"  # as PyTorch says it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status. An input error is one sentence, without a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(HELP.replace("{configs}", ", ".join(config_names())), end="")
        return 0
    if command == "--version":
        print(f"vtadl {version('vtadl-ext')}")
        return 0
    if command not in COMMANDS:
        print(f"vtadl: there is no command {command}; see vtadl --help", file=sys.stderr)
        return 2
    _quieten_lightning()
    try:
        return COMMANDS[command](arguments)
    except ValueError as error:
        cause = input_error(error)
        if cause is None:
            raise
        sentence = str(cause).rstrip().rsplit("InputError: ", 1)[-1]  # a loader's process adds its traceback
        return _complain(sentence, 2 if isinstance(cause, UsageError) else 1)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except ModuleNotFoundError as error:
        return _complain(_missing(error), 1)
    except DivergenceError as error:
        return _complain(str(error), DIVERGED)
    except (MemoryError, OverflowError, RuntimeError) as error:
        message = str(error) or "out of memory"
        if isinstance(error, RuntimeError) and not re.search(TOO_LARGE, message):
            raise
        return _complain(f"a setting is too large: {message.splitlines()[0]}", 1)
    except KeyboardInterrupt as interrupt:
        return _complain(f"interrupted{interrupt}", INTERRUPTED)


def _missing(error: ModuleNotFoundError) -> str:
    """What to install, if this package knows."""
    if error.name is None:
        return " ".join(str(error).split())
    extra = "export" if error.name.startswith("onnx") else "train"
    return f"{error.name} is missing: pip install 'vtadl-ext[{extra}]'"


def _complain(sentence: str, status: int) -> int:
    print(f"vtadl: {sentence}", file=sys.stderr)
    return status


def _quieten_lightning() -> None:
    """Drops what says nothing about the run: deprecated functions, its folder, advertisements."""
    noise = ("LeafSpec", "was deprecated in v4", "exists and is not empty", "The dirpath has changed")
    for message in (*noise, "The number of training batches"):
        warnings.filterwarnings("ignore", message=f"(?s).*{message}")
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint")
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(lambda record: "Tip: For seamless cloud" not in record.getMessage())


def config_names() -> list[str]:
    """The packaged settings that `--config` takes by name."""
    files = resources.files("vtadl.configs").iterdir()
    return sorted(Path(file.name).stem for file in files if file.name.endswith(".yaml"))


def _lightning(arguments: list[str]) -> int:
    from vtadl.cli.lightning_cli import run
    from vtadl.cli.run_folder import expand_run_folders

    run(_resolve_configs(expand_run_folders(_long_options(arguments))))
    return 0


def _resolve_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments with the files of packaged settings in the place of their names."""
    resolved = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, name = argument.rpartition("=")
        is_config = (option or before) in ("--config", "-c")
        resolved.append(f"{option}{equals}{_settings_file(name)}" if is_config else argument)
    return resolved


def _settings_file(name: str) -> str:
    """A file of settings that can be read; the parser names what else is wrong with it."""
    path = Path(os.path.expanduser(name))
    if path.is_file():
        _check_syntax(path)
        return str(path)
    if name in config_names():
        return str(resources.files("vtadl.configs") / f"{name}.yaml")
    raise InputError(f"there are no settings {name}: it is no file, and none of {', '.join(config_names())}")


def _check_syntax(name: Path) -> None:
    import yaml  # type: ignore[import-untyped]

    try:
        with name.open(encoding="utf-8") as file:
            aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(file))
    except UnicodeDecodeError as error:
        raise InputError(f"settings {name} are not text: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"settings {name} are not YAML: {' '.join(str(error).split())}") from error
    if aliases > MOST_ALIASES:
        raise InputError(f"settings {name} hold {aliases} aliases; {MOST_ALIASES} are allowed")


def _predict(arguments: list[str]) -> int:
    from vtadl.cli.parsing import Parser
    from vtadl.cli.predict import predict
    from vtadl.data.images import MAX_PIXELS

    parser = Parser(prog="vtadl predict", description="Scores images and shows where they are unusual.")
    parser.add_argument("images", nargs="*", type=str, help="Image files, folders of them, or patterns.")
    parser.add_argument("--images", dest="more_images", nargs="*", type=str, default=[], help="The same.")
    parser.add_argument(
        "--ckpt", "--checkpoint", required=True, type=str, help="Checkpoint, or folder of a run."
    )
    parser.add_argument("-o", "--output", type=str, default="predictions", help="Folder to write to.")
    parser.add_argument("--batch_size", type=int, default=16, help="Images scored at once.")
    parser.add_argument("--workers", type=int, default=0, help="Processes that read images.")
    parser.add_argument("--device", type=str, default="auto", help="Where to run: auto, cpu, cuda, cuda:1.")
    parser.add_argument("--max_pixels", type=int, default=MAX_PIXELS, help="A file with more is not read.")
    options = vars(parser.parse_args(arguments[1:]))
    images = [*options.pop("images"), *options.pop("more_images")]
    if not images:
        parser.error("no images are given")
    return PARTLY_READ if predict(images, **options) else 0


def _data(arguments: list[str]) -> int:
    from vtadl.cli.data import run

    run(arguments[1:])
    return 0


def _reproduce(arguments: list[str]) -> int:
    from vtadl.cli.reproduce import mnist, mvtec

    _call([mnist, mvtec], "vtadl reproduce", arguments[1:])
    return 0


def _call(functions: Any, prog: str, options: list[str]) -> None:
    from jsonargparse import auto_cli

    from vtadl.cli.parsing import Parser

    options = _long_options(options)
    auto_cli(functions, args=options, as_positional=False, parser_class=Parser, prog=prog)


def _long_options(arguments: list[str]) -> list[str]:
    return ["--output" if argument == "-o" else argument for argument in arguments]


def _function(module: str, name: str) -> Callable[[list[str]], int]:
    """A command whose options are the parameters of a function."""

    def run(arguments: list[str]) -> int:
        from importlib import import_module

        command, *options = arguments
        _call(getattr(import_module(module), name), f"vtadl {command}", options)
        return 0

    return run


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "fit": _lightning,
    "test": _lightning,
    "report": _lightning,
    "predict": _predict,
    "data": _data,
    "export": _function("vtadl.cli.export", "export"),
    "demo": _function("vtadl.cli.demo", "demo"),
    "reproduce": _reproduce,
}
