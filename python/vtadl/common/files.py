"""Writing files so that a reader never sees half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vtadl.errors import InputError


def absolute_path(path: str | os.PathLike[str]) -> str:
    """The path from the root on. A link keeps its name, unless `..` follows: that leads out of its target."""
    parts = Path(path).expanduser().parts
    leading = len(parts) - parts[::-1].index("..") if ".." in parts else 0
    start = os.path.realpath(os.path.join("", *parts[:leading]))
    return os.path.abspath(os.path.join(start, *parts[leading:]))


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of `path`, moved there when the block ends without an error.

    The folder is made if there is none. The suffix stays, because writers choose the format by it.

    Raises:
        InputError: If the system does not let it be written.
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
