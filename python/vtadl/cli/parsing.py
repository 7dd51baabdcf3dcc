"""Command-line parsers whose errors are one sentence."""

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser

from vtadl.cli.old_settings import (
    translate_data_options,
    translate_file,
    translate_model_options,
    translate_settings,
)

# The beginnings of lines in jsonargparse's messages that only concern Python types.
_DETAILS = (
    "Does not validate against",
    "Subtypes: ",
    "Errors:",
    "Expected a <class 'NoneType'>",
    "Expected a path but",
    "Given value type: ",
)
_MAX_VALUE_LENGTH = 80  # a longer line about a given value is left out
_MAX_LENGTH = 400  # of a sentence
# Phrases of jsonargparse, and plainer ones.
_PHRASES = (
    (r"Expected a typing\.Literal\[(.*?)\]\.?", r"Choose from \1."),
    (
        r"Subcommand '\w+' does not accept option '(.*?)'",
        r"A settings file holds \1, a setting that this version does not have.",
    ),
    (r"Expected a dot import path string: (\S+)", r"There is no \1 to choose."),
)


def one_sentence(message: str) -> str:
    """Shortens a message of jsonargparse about an option to one sentence without Python types."""
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    kept = [line for line in lines if not line.startswith(_DETAILS)]
    sentence = " ".join(
        line for line in kept if line and not (line.startswith("Given") and len(line) > _MAX_VALUE_LENGTH)
    )
    for pattern, phrase in _PHRASES:
        sentence = re.sub(pattern, phrase, sentence)
    return sentence if len(sentence) <= _MAX_LENGTH else f"{sentence[:_MAX_LENGTH]} ..."


class Parser(ArgumentParser):
    """jsonargparse's parser with shorter errors; it accepts settings with the names of earlier versions."""

    def __init__(self, prog: str = "vtadl", **options: Any) -> None:
        """Names the command, because jsonargparse makes parsers without a name for the help of classes."""
        super().__init__(prog=prog, **options)

    def parse_args(self, args: Sequence[str] | None = None, **options: Any) -> Namespace:  # type: ignore[override]
        return super().parse_args(None if args is None else translate_data_options(args), **options)

    def parse_string(self, content: str, *arguments: Any, **options: Any) -> Namespace:
        return super().parse_string(translate_file(content), *arguments, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(one_sentence(message), ex)


class LightningParser(Parser, LightningArgumentParser):
    """Lightning's parser with shorter errors; it accepts settings with the names of earlier versions."""

    def parse_args(self, args: Sequence[str] | None = None, **options: Any) -> Namespace:  # type: ignore[override]
        return super().parse_args(None if args is None else translate_model_options(args), **options)

    def parse_object(self, obj: Any, *arguments: Any, **options: Any) -> Namespace:
        """Parses the settings of a command by its name; those of the model come from a checkpoint."""
        if isinstance(obj, dict):
            obj = translate_settings(obj)
        return super().parse_object(obj, *arguments, **options)
