"""Finding image files: which names are images, which folders are followed, and what a glob stands for."""

import json
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from PIL import Image

Image.init()
# Those of Pillow's formats that hold pixels and are decoded by it or its libraries. It has others that start
# a program (EPS, PDF), draw (WMF), or only tell what a file is (HDF5).
_SAFE = (
    "AVIF",
    "BMP",
    "DIB",
    "GIF",
    "JPEG",
    "JPEG2000",
    "PCX",
    "PNG",
    "PPM",
    "PSD",
    "QOI",
    "SGI",
    "TGA",
    "TIFF",
)
# What Pillow's decoders raise for a damaged file.
DECODER_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, RuntimeError, MemoryError),
    *(ArithmeticError, LookupError, struct.error),
)
FORMATS = tuple(name for name in (*_SAFE, "WEBP") if name in Image.OPEN)
SUFFIXES = frozenset(
    suffix for suffix, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")
)
# Why files are left out.
HIDDEN = "hidden files"
WRITTEN = "files that `vtadl predict` wrote"
BROKEN = "links that lead nowhere"
UNKNOWN = "images whose suffix is not that of an image"
OTHERS = "files that are no images"

WILDCARDS = "*?["
PREDICTED = ("maps", "masks", "overlays")  # folders of pictures that `vtadl predict` writes


def list_images(folder: Path, pattern: str = "*") -> list[Path]:
    """The images whose paths match a glob below a folder, sorted; none if there is no such folder.

    Links to folders are followed. A link that leads nowhere is among the images by its name, so that whatever
    reads it names it. Hidden files and folders are not, nor is what `vtadl predict` wrote.
    """
    base, parts = split_glob(folder, pattern)
    return sorted(
        path
        for path in files_below(base, None if "**" in parts else len(parts))
        if matches(path.relative_to(base).parts, parts)
        and has_image_suffix(path)
        and not is_hidden(path, base)
        and not is_predicted(path)
    )


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, linked ones included and hidden ones not, sorted."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def split_glob(folder: Path, pattern: str) -> tuple[Path, tuple[str, ...]]:
    """The folder below which all paths that match a glob are, and the parts of the glob that follow it.

    A glob without wildcards that names a folder stands for all that is below it.

    Raises:
        ValueError: If it is no glob.
    """
    parts = Path(os.path.expanduser(pattern)).parts
    if any("**" in part and part != "**" for part in parts):
        raise ValueError("'**' can only be an entire path component")
    plain = next((index for index, part in enumerate(parts) if set(part) & set(WILDCARDS)), len(parts))
    base = folder.joinpath(*parts[:plain])
    if plain < len(parts):
        return base, parts[plain:]
    return (base, ("**", "*")) if base.is_dir() else (base.parent, (base.name,))


def matches(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether the parts of a path match those of a glob, where `**` stands for any number of them."""
    if not parts:
        return not names
    if parts[0] == "**":
        return any(matches(names[start:], parts[1:]) for start in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], parts[0]) and matches(names[1:], parts[1:])


def files_below(folder: Path, levels: int | None = None) -> Iterator[Path]:
    """All files below a folder, so many levels deep, and those of linked folders.

    Each folder is visited once, and none that the given one is in: links may lead in circles.
    """
    if not folder.is_dir():
        return
    seen = {_identity(parent) for parent in folder.absolute().parents}
    folders, links = deque([folder]), deque[Path]()
    while folders or links:
        current = (folders or links).popleft()
        if _identity(current) in seen:
            continue
        seen.add(_identity(current))
        is_last = len(current.relative_to(folder).parts) + 1 == levels
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


def has_image_suffix(path: Path) -> bool:
    """Whether a file is an image by its name."""
    return path.suffix.lower() in SUFFIXES


def is_hidden(path: Path, base: Path) -> bool:
    """Whether a file, or a folder that it is in below `base`, is hidden."""
    return any(part.startswith(".") for part in path.relative_to(base).parts)


def is_predicted(path: Path) -> bool:
    """Whether `vtadl predict` wrote a file: a picture beside the scores that say so, or those."""
    path = path.absolute()
    if path.name in ("scores.csv", "scores.json"):
        return written_pictures(path.with_name("scores.json")) is not None
    for parent in path.parents:
        if parent.name in PREDICTED:
            written = written_pictures(parent.parent / "scores.json")
            if written is not None:
                is_called_so = has_image_suffix(path) and has_image_suffix(Path(path.stem))
                return is_called_so or path.relative_to(parent.parent).as_posix() in written
    return False


def why_left_out(path: Path, base: Path) -> str:
    """Why a file below a folder is not taken for an image; nothing if it is."""
    if is_hidden(path, base):
        return HIDDEN
    if is_predicted(path):
        return WRITTEN
    if has_image_suffix(path):
        return ""
    if not path.exists():
        return BROKEN
    return UNKNOWN if _is_image(path) else OTHERS


def first_few(paths: Iterable[str | Path], most: int = 3) -> str:
    """The first paths of a list, and how many more there are."""
    names = [str(path) for path in paths]
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _is_image(path: Path) -> bool:
    """Whether a file begins as an image does, whatever it is called."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Image.DecompressionBombError:  # large, but an image
        return True
    except DECODER_ERRORS:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def written_pictures(scores: Path) -> frozenset[str] | None:
    """The pictures that a file of scores lists; None if it is none of `vtadl predict`."""
    try:
        return _read_scores(scores, scores.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=64)
def _read_scores(scores: Path, modified: int) -> frozenset[str] | None:
    try:
        report = json.loads(scores.read_text(encoding="utf-8"))
        if not {"thresholds", "images", "unreadable"} <= report.keys():
            return None
        return frozenset(row[kind[:-1]] for row in report["images"] for kind in PREDICTED)
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
