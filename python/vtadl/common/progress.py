"""Progress on a terminal, and nothing where the output goes elsewhere."""

from collections.abc import Iterable
from typing import TypeVar

import rich
from rich.progress import track

Item = TypeVar("Item")


def progress(items: Iterable[Item], doing: str) -> Iterable[Item]:
    """The items, with a bar that vanishes when they are done."""
    return track(items, doing, transient=True, disable=not rich.get_console().is_terminal)
