"""Parsers of the command line, which say in one sentence what is wrong with it."""

from typing import NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

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


def one_sentence(message: str) -> str:
    """The library's message about an option, without details of Python."""
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    kept = [line for line in lines if not line.startswith(_DETAILS)]
    return " ".join(line for line in kept if line and not (line.startswith("Given") and len(line) > _LONG))


class Parser(ArgumentParser):
    """The library's own, with shorter errors."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(one_sentence(message), ex)


class LightningParser(Parser, LightningArgumentParser):
    """Lightning's, with shorter errors."""
