"""Files that `vtadl predict` has written, which are never taken for images of the user."""

import json
from functools import lru_cache
from pathlib import Path

from vtadl.data.formats import has_image_suffix

FOLDERS = ("maps", "masks", "overlays")  # of the pictures that `vtadl predict` writes


def is_prediction(path: Path) -> bool:
    """Returns whether `vtadl predict` wrote a file: a table of scores, or a picture that belongs to one."""
    path = path.absolute()
    if path.name in ("scores.csv", "scores.json"):
        return listed_pictures(path.with_name("scores.json")) is not None
    for parent in path.parents:
        if parent.name in FOLDERS:
            listed = listed_pictures(parent.parent / "scores.json")
            if listed is not None:
                # The picture of `7.jpg` is called `7.jpg.png`.
                has_both_suffixes = has_image_suffix(path) and has_image_suffix(Path(path.stem))
                return has_both_suffixes or path.relative_to(parent.parent).as_posix() in listed
    return False


def listed_pictures(scores: Path) -> frozenset[str] | None:
    """Returns the pictures that a `scores.json` lists; None if `vtadl predict` has not written that file."""
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
        return frozenset(row[folder[:-1]] for row in report["images"] for folder in FOLDERS)
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
