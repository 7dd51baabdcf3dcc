"""The folder of a run: its settings and its checkpoints, and the paths that the settings name."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vtadl.common.files import absolute_path
from vtadl.errors import InputError, UsageError


def expand_run_folders(arguments: Sequence[str]) -> list[str]:
    """Replaces the run folder of `fit --resume FOLDER` or `test FOLDER` by its settings and its checkpoint.

    Raises:
        InputError: If the folder holds no run.
        UsageError: If `--resume` has no folder, or model settings are given with it.
    """
    command, *options = arguments
    expanded = [command]
    while options:
        option = options.pop(0)
        name, equals, value = option.partition("=")
        if name == "--ckpt":
            expanded.append(f"--ckpt_path{equals}{value}")
        elif command == "fit" and name == "--resume":
            expanded += _options_of_run(value if equals else options.pop(0) if options else "", "last.ckpt")
            _refuse_model_options([*expanded, *options])
        elif command != "fit" and len(expanded) == 1 and not option.startswith("-"):
            # The callbacks in the settings are those of training.
            expanded += [*_options_of_run(option, "best.ckpt"), "--trainer.callbacks=null"]
        else:
            expanded.append(option)
    return expanded


def require_no_other_run(folder: Path, checkpoint: str | None) -> None:
    """Raises InputError if a new run would overwrite the one in a folder."""
    if (folder / "last.ckpt").exists() and checkpoint is None:
        raise InputError(
            f"{folder} already holds a run: resume it with vtadl fit --resume {folder}, or choose another "
            "--output"
        )


def make_paths_absolute(settings: Any) -> None:
    """Makes the paths in the settings of a run absolute, so that it can be tested from any working directory.

    A checkpoint of the run itself is removed from the settings; `--resume` and `test` find it by the folder.
    """
    for name in ("output", "ckpt_path"):
        if settings.get(name) is not None:
            settings[name] = absolute_path(settings[name])
    if settings.get("ckpt_path") and os.path.dirname(settings.ckpt_path) == settings.output:
        settings.ckpt_path = None
    backbone = settings.get("model.density.backbone")
    if backbone and os.path.isdir(os.path.expanduser(backbone)):
        settings["model.density.backbone"] = absolute_path(backbone)
    if _data_root(settings) is not None:
        settings.data.init_args.root = absolute_path(_data_root(settings))


def require_data_folder(settings: Any) -> None:
    """Raises InputError if the settings name a folder of images that does not exist."""
    root = _data_root(settings)
    if root is not None and not os.path.isdir(os.path.expanduser(root)):
        raise InputError(
            f"there is no folder {root}; if the data have moved, give their folder by --data.root FOLDER"
        )


def remove_logs(folder: Path) -> None:
    """Removes the log of this process, and the folder if it is then empty."""
    with suppress(OSError):  # the folder is not empty
        for log in folder.glob(f"events.out.tfevents.*.{os.getpid()}.*"):
            log.unlink()
        folder.rmdir()


def _options_of_run(folder: str, checkpoint: str) -> list[str]:
    if not folder:
        raise UsageError("--resume needs the folder of a run")
    folder = os.path.expanduser(folder)
    settings, path = Path(folder) / "config.yaml", Path(folder) / checkpoint
    if not settings.exists():
        raise InputError(f"there is no run in {folder}: its config.yaml is missing")
    # A run that was stopped in its first epoch has no checkpoint and starts again.
    return [
        "--config",
        str(settings),
        f"--ckpt_path={path if path.exists() else 'null'}",
        f"--output={folder}",
    ]


def _refuse_model_options(options: Sequence[str]) -> None:
    """Raises UsageError for settings of the model: those of the checkpoint would override them silently."""
    for option in options:
        if option.startswith("--model"):
            name = option.partition("=")[0]
            raise UsageError(f"{name} cannot change in a run that is resumed: train a new run")


def _data_root(settings: Any) -> Any:
    return (settings.data.get("init_args") or {}).get("root")
