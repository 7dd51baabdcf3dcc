"""A progress bar for terminals."""

from collections.abc import Iterable
from typing import TypeVar

import rich
from rich.progress import track

Item = TypeVar("Item")


def progress(items: Iterable[Item], doing: str) -> Iterable[Item]:
    """Iterates over items, with a bar that disappears at the end; without a terminal there is no bar."""
    return track(items, doing, transient=True, disable=not rich.get_console().is_terminal)
