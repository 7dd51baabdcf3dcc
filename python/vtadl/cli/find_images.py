"""The image files that the arguments of `vtadl predict` stand for."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vtadl.common.files import absolute_path
from vtadl.common.text import first_few
from vtadl.data.globs import matches, split_glob, walk_files
from vtadl.data.listing import PREDICTION, exclusion_reason
from vtadl.data.predictions import is_prediction
from vtadl.errors import InputError


class FoundImages(NamedTuple):
    """Image files, and the other files that were found with them."""

    paths: dict[str, Path]  # by their path below the common folder, which is their name in results
    excluded: dict[Path, str]  # the reason why each of the other files is excluded


def find_images(arguments: Sequence[str]) -> FoundImages:
    """Finds the image files that files, folders and patterns stand for.

    Raises:
        InputError: If there is no argument, or an argument stands for no image.
    """
    if not arguments:
        raise InputError("no images are given")
    folder_of: dict[Path, Path] = {}  # the folder below which the name of an image begins
    excluded: dict[Path, str] = {}
    for argument in arguments:
        reason_of = {_absolute(path): (folder, reason) for path, folder, reason in _expand(argument)}
        images = {
            path: _absolute(folder) for path, (folder, reason) in sorted(reason_of.items()) if not reason
        }
        others = {path: reason for path, (_, reason) in sorted(reason_of.items()) if reason}
        # A shell may expand a pattern to single files, some of which are predictions.
        if not images and set(others.values()) != {PREDICTION}:
            raise InputError(f"there is no image {argument}" + (f"; {describe(others)}" if others else ""))
        folder_of |= {path: folder for path, folder in images.items() if path not in folder_of}
        excluded |= others
    if not folder_of:
        raise InputError(f"there is no image {first_few(arguments)}; {describe(excluded)}")
    root = os.path.commonpath(list(folder_of.values()))
    return FoundImages({path.relative_to(root).as_posix(): path for path in folder_of}, excluded)


def describe(excluded: dict[Path, str]) -> str:
    """Says how many files are excluded, and why."""
    counts = Counter(excluded.values())
    return "left out are " + ", ".join(
        f"{count} {reason} ({first_few(path for path, why in excluded.items() if why == reason)})"
        for reason, count in counts.items()
    )


def _expand(argument: str) -> Iterator[tuple[Path, Path, str]]:
    """Yields each file, the given or matched folder that it lies in, and the reason why it is excluded."""
    given = Path(os.path.expanduser(argument))
    if given.is_dir():
        yield from ((path, given, exclusion_reason(path, given)) for path in walk_files(given))
    elif os.path.lexists(given):  # a file that is named is read, whatever its suffix is
        yield given, given.parent, PREDICTION if is_prediction(given) else ""
    else:
        for path, folder in _match(argument):
            yield path, folder, exclusion_reason(path, folder)


def _match(pattern: str) -> Iterator[tuple[Path, Path]]:
    """Yields each file that a pattern matches or whose folder it matches, and that folder."""
    try:
        base, parts = split_glob(Path(), pattern)
    except ValueError as error:
        raise InputError(f"{pattern} is not a valid pattern: {error}") from error
    if "**" not in parts:  # the folders below the base need not all be searched
        for match in sorted(map(Path, glob.glob(os.path.join(glob.escape(str(base)), *parts)))):
            yield from ((path, match) for path in walk_files(match))
            if not match.is_dir():
                yield match, match.parent
        return
    for path in walk_files(base):
        names = path.relative_to(base).parts
        matched = [names[:end] for end in range(len(names) + 1) if matches(names[:end], parts)]
        if matched:
            yield path, path.parent if matched[0] == names else base.joinpath(*matched[0])


def _absolute(path: Path) -> Path:
    return Path(absolute_path(path))
