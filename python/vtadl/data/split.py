"""Which normal images are trained with, and which are held out for validation."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vtadl.data.content import Content, draw, read_contents
from vtadl.data.images import MAX_PIXELS
from vtadl.data.listing import first_few
from vtadl.data.manifest import Entry
from vtadl.errors import InputError


class Split(NamedTuple):
    """Normal images in two parts; of files that show the same picture the first one counts."""

    contents: dict[Path, Content]  # of all files
    training: list[Path]
    validation: list[Path]
    copies: dict[Path, Path]  # a file, and the first that shows the same

    def entries(self, root: Path) -> list[Entry]:
        """Each file with its digest and its part, which for a copy is that of the original."""
        validated = set(self.validation)
        return [
            Entry(
                Path(os.path.relpath(path, root)).as_posix(),
                content.file,
                "validation" if self.copies.get(path, path) in validated else "training",
            )
            for path, content in self.contents.items()
        ]

    def about_copies(self) -> str:
        """One sentence; none if there are no copies."""
        if not self.copies:
            return ""
        few = first_few(f"{copy} of {original.name}" for copy, original in self.copies.items())
        return (
            f"{len(self.copies)} of {len(self.contents)} normal images are copies of others, equal in each "
            f"pixel, and count as one with them: {few}"
        )


def split_images(
    normal: Sequence[Path],
    held_out: Sequence[Path],
    val_fraction: float,
    seed: int,
    max_pixels: int = MAX_PIXELS,
) -> Split:
    """Holds out a random part of the normal images, unless images for validation are given.

    The same files are held out for the same seed, whatever they are called; without a file, or with one
    more, the others stay where they are, but for one at most.

    Raises:
        InputError: If there are too few, of which two have to be for validation.
    """
    contents = read_contents([*normal, *held_out], max_pixels)
    first: dict[str, Path] = {}
    originals = {path: first.setdefault(content.identity, path) for path, content in contents.items()}
    trained = dict.fromkeys(originals[path] for path in normal)
    validated = dict.fromkeys(originals[path] for path in held_out if originals[path] not in trained)
    if not held_out:
        count = min(max(2, round(val_fraction * len(trained))), len(trained) - 1)
        drawn = draw(contents.values(), count, seed, "validation")
        validated = {path: None for path in trained if contents[path].identity in drawn}
    training = [path for path in trained if path not in validated]
    if not training or len(validated) < 2:
        raise InputError(
            f"{normal[0].parent} needs at least 3 images, 2 of them for validation, and none a copy of "
            f"another; it has {len(trained) + len(held_out)}"
        )
    copies = {path: original for path, original in originals.items() if path != original}
    return Split(contents, training, list(validated), copies)
