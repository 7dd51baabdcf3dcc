"""Absolute paths, and files that are written as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vtadl.errors import InputError


def absolute_path(path: str | os.PathLike[str]) -> str:
    """The absolute path. Links are resolved only before a `..`, which leads out of their target."""
    parts = Path(os.path.expanduser(path)).parts
    leading = len(parts) - parts[::-1].index("..") if ".." in parts else 0
    start = os.path.realpath(os.path.join("", *parts[:leading]))
    return os.path.abspath(os.path.join(start, *parts[leading:]))


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to it when the block ends without an error.

    The folder is made if it does not exist. The suffix stays, because writers derive the format from it.

    Raises:
        InputError: If the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
