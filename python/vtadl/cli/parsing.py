"""Parsers of the command line, which say in one sentence what is wrong with it."""

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser

from vtadl.cli.old_settings import translate_file, translate_options, translate_settings

# Of what the library says: the types of Python behind an option, and all that was given if that is long.
_DETAILS = (
    "Does not validate against",
    "Subtypes: ",
    "Errors:",
    "Expected a <class 'NoneType'>",
    "Expected a path but",
    "Given value type: ",
)
_LONG = 80
_LONGEST = 400  # of a sentence
# What is left of them, in other words.
_WORDS = (
    (r"Expected a typing\.Literal\[(.*?)\]\.?", r"Choose from \1."),
    (r"Expected a dot import path string: (\S+)", r"There is no \1 to choose."),
)


def one_sentence(message: str) -> str:
    """The library's message about an option, without details of Python."""
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    kept = [line for line in lines if not line.startswith(_DETAILS)]
    sentence = " ".join(
        line for line in kept if line and not (line.startswith("Given") and len(line) > _LONG)
    )
    for pattern, words in _WORDS:
        sentence = re.sub(pattern, words, sentence)
    return sentence if len(sentence) <= _LONGEST else f"{sentence[:_LONGEST]} ..."


class Parser(ArgumentParser):
    """The library's own, with shorter errors; settings may have the names of earlier versions."""

    def parse_args(self, args: Sequence[str] | None = None, **options: Any) -> Namespace:  # type: ignore[override]
        return super().parse_args(None if args is None else translate_options(args), **options)

    def parse_string(self, content: str, *arguments: Any, **options: Any) -> Namespace:
        return super().parse_string(translate_file(content), *arguments, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(one_sentence(message), ex)


class LightningParser(Parser, LightningArgumentParser):
    """Lightning's, with shorter errors."""

    def parse_object(self, obj: Any, *arguments: Any, **options: Any) -> Namespace:
        """Parses the settings of a command by its name; those of the model come from a checkpoint."""
        if isinstance(obj, dict):
            obj = {name: translate_settings(x) if isinstance(x, dict) else x for name, x in obj.items()}
        return super().parse_object(obj, *arguments, **options)
