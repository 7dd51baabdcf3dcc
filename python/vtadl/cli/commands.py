"""The `vtadl` command: its help, its subcommands and its exit status."""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from vtadl.cli.config_files import config_names, resolve_configs
from vtadl.cli.data_modules import data_modules
from vtadl.errors import DivergenceError, UsageError, input_error

HELP = """usage: vtadl COMMAND [options]

VT-ADL detects anomalies in images. It learns from normal images alone, gives every new image a score, and
shows in an anomaly map where the image is unusual.

  vtadl demo                          train and test detectors on embedded photographs, and write a report
  vtadl fit --config small --data MVTecAD --data.root parts --output runs/parts
                                      train a detector on the normal images in parts/train/good; the run is
                                      kept in the folder runs/parts
  vtadl fit --resume runs/parts       resume that run
  vtadl test runs/parts               test the detector of that run on the images in parts/test
  vtadl report runs/parts             test it, and write an HTML page with metrics, curves and pictures
  vtadl predict --ckpt runs/parts new/*.png -o out
                                      write scores, anomaly maps and masks of images, which are given as
                                      files, folders or patterns
  vtadl calibrate runs/parts --images new/good
                                      take the thresholds of a detector anew from normal images of today
  vtadl data --check --data MVTecAD --data.root parts
                                      count and check images: sizes, unreadable files, wrong masks, copies
  vtadl export --ckpt runs/parts --format onnx -o parts.onnx
                                      export the detector, from the pixels to the decision, for ONNX Runtime
                                      or PyTorch
  vtadl reproduce mnist --root mnist -o reproduced
                                      run the paper's protocols (mnist, mvtec), and compare with its results

`vtadl COMMAND --help` lists the options of a command, and `vtadl --version` prints the version.
--data takes {data} (embedded photographs).
--config takes a YAML file or one of: {configs}
--ckpt takes a checkpoint, or the folder of a run, whose best checkpoint is used.

exit status: 0 success; 1 an input cannot be used; 2 wrong usage; 3 some images could not be read, and the
others were scored; 4 training diverged; 130 interrupted (continue with --resume)
"""

PARTLY_READ, DIVERGED, INTERRUPTED = 3, 4, 130
# The words by which PyTorch says that a setting needs too much memory.
_OUT_OF_MEMORY = "allocate|out of memory|not enough memory|Invalid buffer size|overflow"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit status; an input error prints one sentence and no traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        text = HELP.replace("{configs}", ", ".join(config_names())).replace("{data}", data_modules())
        print(text, end="")
        return 0
    if command == "--version":
        print(f"vtadl {version('vtadl-ext')}")
        return 0
    if command not in COMMANDS:
        print(f"vtadl: there is no command {command}; see vtadl --help", file=sys.stderr)
        return 2
    _filter_lightning_messages()
    try:
        return COMMANDS[command](arguments)
    except ValueError as error:
        cause = input_error(error)
        if cause is None:
            raise
        # A worker process of a data loader adds its traceback before the message.
        sentence = str(cause).rstrip().rsplit("InputError: ", 1)[-1]
        return _print_error(sentence, 2 if isinstance(cause, UsageError) else 1)
    except OSError as error:
        return _print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except ModuleNotFoundError as error:
        return _print_error(_missing_package(error), 1)
    except DivergenceError as error:
        return _print_error(str(error), DIVERGED)
    except (MemoryError, OverflowError, RuntimeError) as error:
        message = str(error) or "out of memory"
        if isinstance(error, RuntimeError) and not re.search(_OUT_OF_MEMORY, message):
            raise
        return _print_error(f"a setting is too large: {message.splitlines()[0]}", 1)
    except KeyboardInterrupt as interrupt:
        return _print_error(f"interrupted{interrupt}", INTERRUPTED)


def _missing_package(error: ModuleNotFoundError) -> str:
    """Says which extra installs a missing package, if the package is known."""
    if error.name is None:
        return " ".join(str(error).split())
    extra = "export" if error.name.startswith("onnx") else "train"
    return f"{error.name} is missing: pip install 'vtadl-ext[{extra}]'"


def _print_error(sentence: str, status: int) -> int:
    print(f"vtadl: {sentence}", file=sys.stderr)
    return status


def _filter_lightning_messages() -> None:
    """Suppresses messages of Lightning that are not about the run, such as deprecation warnings."""
    unrelated = ("LeafSpec", "was deprecated in v4", "exists and is not empty", "The dirpath has changed")
    for message in (*unrelated, "The number of training batches"):
        warnings.filterwarnings("ignore", message=f"(?s).*{message}")
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint")
    warnings.filterwarnings("ignore", message=".*this fit will run with no optimizer")
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(lambda record: "Tip: For seamless cloud" not in record.getMessage())


def _lightning(arguments: list[str]) -> int:
    from vtadl.cli.lightning_cli import run
    from vtadl.cli.run_folder import expand_run_folders

    if arguments[0] == "fit":
        arguments = _long_backbone(arguments)
    run(resolve_configs(expand_run_folders(_long_options(arguments))))
    return 0


def _predict(arguments: list[str]) -> int:
    from vtadl.cli.predict import run

    return PARTLY_READ if run(arguments[1:]) else 0


def _calibrate(arguments: list[str]) -> int:
    from vtadl.cli.calibrate import run

    return PARTLY_READ if run(arguments[1:]) else 0


def _data(arguments: list[str]) -> int:
    from vtadl.cli.data import run

    run(arguments[1:])
    return 0


def _reproduce(arguments: list[str]) -> int:
    from vtadl.cli.old_settings import drop_model_groups
    from vtadl.cli.reproduce import mnist, mvtec

    _call([mnist, mvtec], "vtadl reproduce", drop_model_groups(_long_backbone(arguments[1:])))
    return 0


def _call(functions: Any, prog: str, options: list[str]) -> None:
    from jsonargparse import auto_cli

    from vtadl.cli.parsing import Parser

    options = _long_options(options)
    auto_cli(functions, args=options, as_positional=False, parser_class=Parser, prog=prog)


def _long_options(arguments: list[str]) -> list[str]:
    return ["--output" if argument == "-o" else argument for argument in arguments]


def _long_backbone(arguments: list[str]) -> list[str]:
    """Replaces `--backbone` by the option of the model that it is short for."""
    return [re.sub(r"^--backbone(?==|$)", "--model.backbone", argument) for argument in arguments]


def _function_command(module: str, name: str) -> Callable[[list[str]], int]:
    """Makes a command whose options are the parameters of a function."""

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
    "calibrate": _calibrate,
    "data": _data,
    "export": _function_command("vtadl.cli.export", "export"),
    "demo": _function_command("vtadl.cli.demo", "demo"),
    "reproduce": _reproduce,
}
