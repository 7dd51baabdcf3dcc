"""Files of settings that earlier versions wrote, in the names of this one."""

import json
from typing import Any

from jsonargparse import get_loader

_OLD_PLUGINS = {"vtadl.files.AtomicCheckpointIO", "vtadl.distributed.SyncBatchNorm"}  # now always there


def translate_settings(text: str) -> str:
    """The text of a file of settings, unchanged unless it holds old names."""
    try:
        settings = get_loader("yaml")(text)
    except Exception:  # the parser says what is wrong with the text
        return text
    translated = _translate(settings) if isinstance(settings, dict) else settings
    return text if translated == settings else json.dumps(translated)


def _translate(settings: dict[str, Any]) -> dict[str, Any]:
    trainer = settings.get("trainer")
    plugins = trainer.get("plugins") if isinstance(trainer, dict) else None
    if not isinstance(plugins, list):
        return settings
    kept = [plugin for plugin in plugins if not _is_old(plugin)]
    return settings | {"trainer": settings["trainer"] | {"plugins": kept or None}}


def _is_old(plugin: Any) -> bool:
    return isinstance(plugin, dict) and plugin.get("class_path") in _OLD_PLUGINS
