"""Globs and the folders that they search: links are followed, and no folder is visited twice."""

import os
from collections import deque
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

_WILDCARDS = frozenset("*?[")


def split_glob(folder: Path, pattern: str) -> tuple[Path, tuple[str, ...]]:
    """Splits a glob into the folder that all its matches lie in, and the parts that are matched below it.

    A glob without wildcards that names a folder matches everything below that folder.

    Raises:
        ValueError: If the glob is invalid.
    """
    parts = Path(os.path.expanduser(pattern)).parts
    if any("**" in part and part != "**" for part in parts):
        raise ValueError("'**' can only be an entire path component")
    plain = next((index for index, part in enumerate(parts) if set(part) & _WILDCARDS), len(parts))
    base = folder.joinpath(*parts[:plain])
    if plain < len(parts):
        return base, parts[plain:]
    return (base, ("**", "*")) if base.is_dir() else (base.parent, (base.name,))


def matches(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Returns whether the parts of a path match those of a glob; `**` matches any number of parts."""
    if not parts:
        return not names
    if parts[0] == "**":
        return any(matches(names[start:], parts[1:]) for start in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], parts[0]) and matches(names[1:], parts[1:])


def walk_files(folder: Path, max_depth: int | None = None) -> Iterator[Path]:
    """Yields all files below a folder, at most `max_depth` levels deep, including those of linked folders.

    Because links may form cycles, each folder is visited once, and the parents of the given folder never are.
    """
    if not folder.is_dir():
        return
    visited = {_identity(parent) for parent in folder.absolute().parents}
    folders, links = deque([folder]), deque[Path]()
    while folders or links:
        current = (folders or links).popleft()
        if _identity(current) in visited:
            continue
        visited.add(_identity(current))
        is_last = len(current.relative_to(folder).parts) + 1 == max_depth
        for entry in sorted(os.scandir(current), key=lambda entry: entry.name):
            if not _is_folder(entry):
                yield Path(entry)
            elif not is_last:
                (links if entry.is_symlink() else folders).append(Path(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
