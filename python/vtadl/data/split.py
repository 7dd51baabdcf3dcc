"""The split of normal images into training and validation."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from vtadl.common.text import first_few
from vtadl.data.content import FileContent, digest, random_images, read_contents
from vtadl.data.images import MAX_PIXELS
from vtadl.data.manifest import ManifestEntry
from vtadl.errors import InputError


class Split(NamedTuple):
    """Normal images for training and validation; of several files of one image, the first is used."""

    contents: dict[Path, FileContent]  # of all files
    training: list[Path]
    validation: list[Path]
    copies: dict[Path, Path]  # each further file of an image, and the first file of that image
    unvalidated: dict[Path, int]  # folders with too few images to validate a trained network, and how many

    def entries(self, root: Path) -> list[ManifestEntry]:
        """Lists all files with their digests and their parts; the part of a copy is that of its original."""
        validation = set(self.validation)
        return [
            ManifestEntry(
                Path(os.path.relpath(path, root)).as_posix(),
                content.digest,
                "validation" if self.copies.get(path, path) in validation else "training",
            )
            for path, content in self.contents.items()
        ]

    def copies_message(self) -> str:
        """Returns a sentence about the copies; an empty text if there are none."""
        if not self.copies:
            return ""
        few = first_few(f"{copy} of {original.name}" for copy, original in self.copies.items())
        return (
            f"{len(self.copies)} of {len(self.contents)} normal images are copies of others with equal "
            f"pixels, and are not used: {few}"
        )


def tested_copies_message(split: Split, test: Sequence[Path]) -> str:
    """Returns a sentence about test files that are copies of normal files, byte for byte, if there are any.

    Only test files with the length of a normal file are read, and no image is decoded.
    """
    normal = {content.digest: path for path, content in reversed(split.contents.items())}
    sizes = {path.stat().st_size for path in split.contents if path.is_file()}
    candidates = [path for path in test if path.is_file() and path.stat().st_size in sizes]
    digests = {path: digest(path.read_bytes()) for path in candidates}
    copies = {path: normal[value] for path, value in digests.items() if value in normal}
    if not copies:
        return ""
    few = first_few(f"{path} of {original.name}" for path, original in copies.items())
    return (
        f"{len(copies)} of {len(test)} test images are copies of normal images to train with, so that tests "
        f"would look too good; remove one of each: {few}"
    )


def split_images(
    normal: Sequence[Path],
    held_out: Sequence[Path],
    category_of: Callable[[Path], str],
    val_fraction: float,
    seed: int,
    max_pixels: int = MAX_PIXELS,
) -> Split:
    """Holds out a random part of each category's normal images, unless `held_out` has images of the category.

    Of one or two images, none is held out.

    The split depends on the seed and the contents of the files, and not on their names. If a file is added
    or removed, at most one other file of its category is assigned to another part.

    Raises:
        InputError: If a category has no image for training that is not a copy.
    """
    contents = read_contents([*normal, *held_out], max_pixels)
    first: dict[str, Path] = {}
    originals = {path: first.setdefault(content.identity, path) for path, content in contents.items()}
    distinct = dict.fromkeys(originals[path] for path in normal)
    given = dict.fromkeys(originals[path] for path in held_out if originals[path] not in distinct)
    split = Split(contents, [], [], {path: first for path, first in originals.items() if path != first}, {})
    shown = {path: category_of(path) for path in contents}
    for category in dict.fromkeys(shown[path] for path in normal):
        own = [path for path in distinct if shown[path] == category]
        all_held_out = [path for path in held_out if shown[path] == category]
        validation = [path for path in given if shown[path] == category]
        if not all_held_out and len(own) > 2:
            identities = {contents[path].identity for path in own}
            candidates = [content for content in contents.values() if content.identity in identities]
            count = min(max(2, round(val_fraction * len(own))), len(own) - 1)
            drawn = random_images(candidates, count, seed, "validation")
            validation = [path for path in own if contents[path].identity in drawn]
        held = set(validation)
        training = [path for path in own if path not in held]
        folder = next(path for path in normal if shown[path] == category).parent
        if not training:
            raise InputError(f"{folder} has no image to train with that is not a copy of another")
        if len(validation) < 2:
            split.unvalidated[folder] = len(own) + len(all_held_out)
        split.training.extend(training)
        split.validation.extend(validation)
    return split
