"""The list of images that a run was trained and validated with, and comparisons of such lists."""

from typing import Any, Literal, NamedTuple

from vtadl.common.text import first_few
from vtadl.errors import InputError

Part = Literal["training", "validation"]


class ManifestEntry(NamedTuple):
    """An image that a run was trained or validated with."""

    path: str  # relative to the root of the data
    digest: str  # of the bytes of the file
    part: Part


class Manifest(NamedTuple):
    """All images that a run was trained and validated with, including copies."""

    root: str
    entries: list[ManifestEntry]

    def as_dict(self) -> dict[str, Any]:
        """Returns the manifest as types that JSON and checkpoints can hold."""
        return {"root": self.root, "files": [entry._asdict() for entry in self.entries]}

    @staticmethod
    def from_dict(saved: dict[str, Any]) -> "Manifest":
        """Returns the manifest from the result of `as_dict`."""
        return Manifest(saved["root"], [ManifestEntry(**entry) for entry in saved["files"]])


class Changes(NamedTuple):
    """Paths of images that have changed; an image that was only renamed or moved has not."""

    removed: list[str]
    added: list[str]
    changed: list[str]
    reassigned: list[str]  # moved from training to validation, or back

    def __str__(self) -> str:
        kinds = (("removed", self.removed), ("added", self.added), ("changed", self.changed))
        return ", ".join(f"{len(paths)} {kind} ({first_few(paths)})" for kind, paths in kinds if paths)


def compare(before: Manifest, now: Manifest) -> Changes:
    """Compares two manifests by the contents of the files."""
    old, new = ({entry.digest: entry.part for entry in manifest.entries} for manifest in (before, now))
    missing = {entry.path for entry in before.entries if entry.digest not in new}
    unknown = {entry.path for entry in now.entries if entry.digest not in old}
    reassigned = {entry.path for entry in now.entries if old.get(entry.digest, entry.part) != entry.part}
    return Changes(
        sorted(missing - unknown), sorted(unknown - missing), sorted(missing & unknown), sorted(reassigned)
    )


def require_unchanged(before: Manifest, now: Manifest, run: str) -> None:
    """Raises InputError if a resumed run would be trained or validated with other images than before."""
    changes = compare(before, now)
    new_run = f"train a new run: vtadl fit --config {run}/config.yaml --output FOLDER"
    if described := str(changes):
        raise InputError(
            f"the training images in {now.root} have changed since {run} was trained: {described}; restore "
            f"them, or {new_run}"
        )
    if changes.reassigned:
        raise InputError(
            f"{len(changes.reassigned)} images ({first_few(changes.reassigned)}) would move from training to "
            f"validation or back, because `seed` or `val_fraction` differs from that of {run}; restore it, "
            f"or {new_run}"
        )
