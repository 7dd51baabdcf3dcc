"""Translation of settings of earlier versions to the names of this version."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import get_loader

from vtadl.settings import GROUP_OF, group_settings

Translation = Callable[[dict[str, Any]], dict[str, Any]]

# Plugins that earlier versions saved in the settings of a run; every trainer has them now.
_OLD_PLUGINS = {"vtadl.files.AtomicCheckpointIO", "vtadl.distributed.SyncBatchNorm"}


def translate_data_options(arguments: Sequence[str]) -> list[str]:
    """Translates command-line options of the data."""
    renamed = [
        re.sub(r"^--data(\.init_args)?\.fit(?==|$)", r"--data\1.resize_mode", argument)
        for argument in arguments
    ]
    return _translate_values(renamed, "--data", _translate_data)


def translate_model_options(arguments: Sequence[str]) -> list[str]:
    """Puts command-line options of the model into their groups."""
    renamed = [
        re.sub(r"^--model(\.density)?\.pretrained(?=_layers|[=+]|$)", r"--model\1.backbone", argument)
        for argument in arguments
    ]
    grouped = [re.sub(r"^--model\.(\w+)", _with_group, argument) for argument in renamed]
    return _translate_values(grouped, "--model", group_settings)


def drop_model_groups(arguments: Sequence[str]) -> list[str]:
    """Takes command-line options of the model out of their groups, for commands that take names alone."""
    return [re.sub(r"^--model\.(\w+)\.(\w+)", _without_group, argument) for argument in arguments]


def translate_file(text: str) -> str:
    """Translates the text of a settings file; a text without old names is returned unchanged."""
    return _translate_text(text, translate_settings)


def translate_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Translates the settings of a command, or of several commands by their names."""
    translated = dict(settings)
    translations = {"data": _translate_data, "model": group_settings, "trainer": _translate_trainer}
    translations |= dict.fromkeys(("fit", "test", "report"), translate_settings)
    for name, translate in translations.items():
        if isinstance(settings.get(name), dict):
            translated[name] = translate(settings[name])
    return translated


def _translate_values(arguments: Sequence[str], option: str, translate: Translation) -> list[str]:
    """Translates settings that are given as the value of an option, in YAML or as the name of a file."""
    translated = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        prefix = f"{option}=" if argument.startswith(f"{option}=") else ""
        if prefix or previous == option:
            argument = prefix + _translate_value(argument.removeprefix(prefix), translate)
        translated.append(argument)
    return translated


def _translate_value(value: str, translate: Translation) -> str:
    try:
        text = Path(value).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError):  # it is no file
        text = value
    translated = _translate_text(text, translate)
    return value if translated == text else translated


def _translate_text(text: str, translate: Translation) -> str:
    try:
        settings = get_loader("yaml")(text)
    except Exception:  # the parser reports the error
        return text
    translated = translate(settings) if isinstance(settings, dict) else settings
    return text if translated == settings else json.dumps(translated)


def _with_group(option: re.Match[str]) -> str:
    name = option[1]
    return f"--model.{GROUP_OF[name]}.{name}" if name in GROUP_OF else option[0]


def _without_group(option: re.Match[str]) -> str:
    group, name = option.groups()
    return f"--model.{name}" if GROUP_OF.get(name) == group else option[0]


def _translate_data(data: dict[str, Any]) -> dict[str, Any]:
    translated = {"resize_mode" if name == "fit" else name: value for name, value in data.items()}
    if isinstance(data.get("init_args"), dict):
        translated["init_args"] = _translate_data(data["init_args"])
    return translated


def _translate_trainer(trainer: dict[str, Any]) -> dict[str, Any]:
    plugins = trainer.get("plugins")
    if not isinstance(plugins, list):
        return trainer
    kept = [plugin for plugin in plugins if not _is_old(plugin)]
    return trainer | {"plugins": kept or None}


def _is_old(plugin: Any) -> bool:
    return isinstance(plugin, dict) and plugin.get("class_path") in _OLD_PLUGINS
