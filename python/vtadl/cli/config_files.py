"""The settings files of `--config`: packaged ones by name, and files of the user."""

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from vtadl.errors import InputError

MAX_ALIASES = 16  # nested YAML aliases multiply the size of what is read


def config_names() -> list[str]:
    """Returns the names of the packaged settings."""
    files = resources.files("vtadl.configs").iterdir()
    return sorted(Path(file.name).stem for file in files if file.name.endswith(".yaml"))


def resolve_configs(arguments: Sequence[str]) -> list[str]:
    """Replaces the names of packaged settings in command-line arguments by their files.

    Raises:
        InputError: If there are no such settings, or their file is not valid YAML.
    """
    resolved = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, name = argument.rpartition("=")
        is_config = (option or previous) in ("--config", "-c")
        resolved.append(f"{option}{equals}{_find_config(name)}" if is_config else argument)
    return resolved


def _find_config(name: str) -> str:
    path = Path(os.path.expanduser(name))
    if path.is_file():
        _check_yaml(path)
        return str(path)
    if name in config_names():
        return str(resources.files("vtadl.configs") / f"{name}.yaml")
    raise InputError(
        f"there are no settings {name}: it is neither a file nor one of {', '.join(config_names())}"
    )


def _check_yaml(path: Path) -> None:
    """Raises InputError if a file is not YAML, or has too many aliases; the parser finds other errors."""
    import yaml  # type: ignore[import-untyped]

    try:
        with path.open(encoding="utf-8") as file:
            aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(file))
    except UnicodeDecodeError as error:
        raise InputError(f"settings {path} are not text: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"settings {path} are not YAML: {' '.join(str(error).split())}") from error
    if aliases > MAX_ALIASES:
        raise InputError(f"settings {path} have {aliases} aliases; at most {MAX_ALIASES} are allowed")
