"""The `vtadl` command."""

import logging
import sys
import warnings
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from vtadl.errors import InputError

HELP = """usage: vtadl {fit,test,predict,demo,reproduce} [options]

VT-ADL, an image anomaly detector that learns from normal images alone.

  vtadl demo                                  train and test on embedded photographs, write a report
  vtadl fit --config small --data MVTecFolder --data.root FOLDER
                                              train on a folder in the layout of MVTec AD
  vtadl fit ... --ckpt_path last.ckpt         go on where a run stopped
  vtadl test --ckpt_path best.ckpt --data MVTecFolder --data.root FOLDER
                                              AUROC and average precision of a trained detector
  vtadl predict --checkpoint best.ckpt --images FOLDER --output FOLDER
                                              scores and anomaly maps of a folder of images
  vtadl reproduce mnist|mvtec --root FOLDER --output FOLDER
                                              the protocols of the paper, with a table beside its figures

`vtadl COMMAND --help` lists the options of a command. --config takes a YAML file or one of: {configs}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status. An input error is one sentence, without a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(HELP.replace("{configs}", ", ".join(config_names())), end="")
        return 0
    commands = {"fit": _lightning, "test": _lightning, "predict": _predict, "demo": _demo}
    commands["reproduce"] = _reproduce
    if command not in commands:
        print(f"vtadl: there is no command {command}; see vtadl --help", file=sys.stderr)
        return 2
    _quieten_lightning()
    try:
        commands[command](arguments)
    except (InputError, FileExistsError, NotADirectoryError, PermissionError) as error:
        sentence = str(error).rstrip().rsplit("InputError: ", 1)[-1]  # a loader's process adds its traceback
        print(f"vtadl: {sentence}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"vtadl: {error.name} is missing: pip install 'vtadl-ext[train]'", file=sys.stderr)
        return 1
    return 0


def _quieten_lightning() -> None:
    """Drops what says nothing about the run: Lightning's use of a deprecated function, and advertisements."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(lambda record: "Tip: For seamless cloud" not in record.getMessage())


def config_names() -> list[str]:
    """The packaged settings that `--config` takes by name."""
    files = resources.files("vtadl.configs").iterdir()
    return sorted(Path(file.name).stem for file in files if file.name.endswith(".yaml"))


def _lightning(arguments: list[str]) -> None:
    from vtadl.lightning_cli import run

    run([_config_path(argument) for argument in arguments])


def _config_path(argument: str) -> str:
    option, equals, name = argument.rpartition("=")
    if name in config_names() and option in ("", "--config", "-c") and not Path(name).exists():
        return f"{option}{equals}{resources.files('vtadl.configs') / name}.yaml"
    return argument


def _predict(arguments: list[str]) -> None:
    from jsonargparse import auto_cli

    from vtadl.prediction import predict

    auto_cli(predict, args=arguments[1:], as_positional=False, prog="vtadl predict")


def _demo(arguments: list[str]) -> None:
    from jsonargparse import auto_cli

    from vtadl.demo import demo

    auto_cli(demo, args=arguments[1:], as_positional=False, prog="vtadl demo")


def _reproduce(arguments: list[str]) -> None:
    from jsonargparse import auto_cli

    from vtadl.reproduce import mnist, mvtec

    auto_cli([mnist, mvtec], args=arguments[1:], as_positional=False, prog="vtadl reproduce")
