"""Which images a run was trained and validated with, so that it knows when they have changed."""

from typing import Any, Literal, NamedTuple

from vtadl.data.listing import first_few
from vtadl.errors import InputError

Part = Literal["training", "validation"]


class Entry(NamedTuple):
    """An image that a run knows."""

    path: str  # below the root of the data
    digest: str  # of its bytes
    part: Part


class Manifest(NamedTuple):
    """All images that a run was trained and validated with, copies among them."""

    root: str
    entries: list[Entry]

    def as_dict(self) -> dict[str, Any]:
        """What JSON and checkpoints can hold."""
        return {"root": self.root, "files": [entry._asdict() for entry in self.entries]}

    @staticmethod
    def from_dict(kept: dict[str, Any]) -> "Manifest":
        """The manifest that `as_dict` was made of."""
        return Manifest(kept["root"], [Entry(**entry) for entry in kept["files"]])


class Changes(NamedTuple):
    """Paths of images that are not what or where they were; of a file that has only moved there are none."""

    removed: list[str]
    added: list[str]
    changed: list[str]
    exchanged: list[str]  # between training and validation

    def __str__(self) -> str:
        said = (("removed", self.removed), ("added", self.added), ("changed", self.changed))
        return ", ".join(f"{len(paths)} {what} ({first_few(paths)})" for what, paths in said if paths)


def compare(before: Manifest, now: Manifest) -> Changes:
    """What has happened to images since; only their contents tell them apart."""
    old, new = ({entry.digest: entry.part for entry in manifest.entries} for manifest in (before, now))
    gone = {entry.path for entry in before.entries if entry.digest not in new}
    come = {entry.path for entry in now.entries if entry.digest not in old}
    exchanged = {entry.path for entry in now.entries if old.get(entry.digest, entry.part) != entry.part}
    return Changes(sorted(gone - come), sorted(come - gone), sorted(gone & come), sorted(exchanged))


def require_unchanged(before: Manifest, now: Manifest, run: str) -> None:
    """Raises InputError if a resumed run would be trained or validated with other images than before."""
    found = compare(before, now)
    anew = f"train anew: vtadl fit --config {run}/config.yaml --output FOLDER"
    if said := str(found):
        raise InputError(
            f"the training images in {now.root} have changed since {run} was trained: {said}; put back what "
            f"there was, or {anew}"
        )
    if found.exchanged:
        raise InputError(
            f"{len(found.exchanged)} images ({first_few(found.exchanged)}) would go from training to "
            f"validation or back, because `seed` or `val_fraction` is not that of {run}; leave them as they "
            f"were, or {anew}"
        )
