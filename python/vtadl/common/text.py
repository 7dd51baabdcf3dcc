"""Wording of messages."""

from collections.abc import Iterable
from pathlib import Path


def first_few(items: Iterable[str | Path], limit: int = 3) -> str:
    """Joins the first items of a list, and says how many more there are."""
    names = [str(item) for item in items]
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
