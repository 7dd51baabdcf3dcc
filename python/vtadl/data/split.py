"""The split of normal images into training and validation."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vtadl.common.text import first_few
from vtadl.data.content import FileContent, random_images, read_contents
from vtadl.data.images import MAX_PIXELS
from vtadl.data.manifest import ManifestEntry
from vtadl.errors import InputError


class Split(NamedTuple):
    """Normal images for training and validation; of several files of one image, the first is used."""

    contents: dict[Path, FileContent]  # of all files
    training: list[Path]
    validation: list[Path]
    copies: dict[Path, Path]  # each further file of an image, and the first file of that image

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


def split_images(
    normal: Sequence[Path],
    held_out: Sequence[Path],
    val_fraction: float,
    seed: int,
    max_pixels: int = MAX_PIXELS,
) -> Split:
    """Holds out a random part of the normal images for validation, unless `held_out` has such images.

    The split depends on the seed and the contents of the files, and not on their names. If a file is added
    or removed, at most one other file is assigned to another part.

    Raises:
        InputError: If there are fewer than one image for training and two for validation.
    """
    contents = read_contents([*normal, *held_out], max_pixels)
    first: dict[str, Path] = {}
    originals = {path: first.setdefault(content.identity, path) for path, content in contents.items()}
    distinct = dict.fromkeys(originals[path] for path in normal)
    validation = dict.fromkeys(originals[path] for path in held_out if originals[path] not in distinct)
    if not held_out:
        count = min(max(2, round(val_fraction * len(distinct))), len(distinct) - 1)
        drawn = random_images(contents.values(), count, seed, "validation")
        validation = {path: None for path in distinct if contents[path].identity in drawn}
    training = [path for path in distinct if path not in validation]
    if not training or len(validation) < 2:
        raise InputError(
            f"{normal[0].parent} needs at least 3 different images, 2 of them for validation; it has "
            f"{len(distinct) + len(held_out)}"
        )
    copies = {path: original for path, original in originals.items() if path != original}
    return Split(contents, training, list(validation), copies)
