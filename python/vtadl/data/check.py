"""What is in a data set, and what is wrong with it, before any training."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vtadl.data.content import Content, read_contents
from vtadl.data.file_module import FileDataModule
from vtadl.data.images import count_frames, open_image, read_marks, upright_size
from vtadl.data.listing import BROKEN, UNKNOWN, files_below, first_few, list_images, why_left_out
from vtadl.data.manifest import Manifest, compare
from vtadl.data.masks import FEW, levels_of, looks_inverted
from vtadl.data.module import ImageDataModule
from vtadl.data.records import Record
from vtadl.data.split import Split
from vtadl.errors import InputError

DEFECTS = "defects_config.json"  # of MVTec LOCO AD
UNUSED = "images in no place where they would be used"


@dataclass
class DataReport:
    """Counts and problems of a data set."""

    counts: dict[str, int] = field(default_factory=dict)  # images of each part and test kind
    masks: Counter[str] = field(default_factory=Counter)  # anomalous test images with and without a mask
    sizes: Counter[str] = field(default_factory=Counter)  # images of each size and mode
    problems: list[str] = field(default_factory=list)  # one sentence each
    notes: list[str] = field(default_factory=list)  # what is missing, but not needed for training

    def __rich__(self) -> RenderableType:
        table = Table("", "images", title="data")
        for title, counts in (("", self.counts), ("mask: ", self.masks), ("size: ", self.sizes)):
            for name, count in counts.items():
                table.add_row(f"{title}{name}", str(count))
            table.add_section()
        lines = [*(f"note: {note}" for note in self.notes), *(f"problem: {text}" for text in self.problems)]
        return Group(table, *map(Text, lines), Text(self.verdict))

    @property
    def verdict(self) -> str:
        """How many problems there are."""
        return {0: "no problem", 1: "1 problem"}.get(len(self.problems), f"{len(self.problems)} problems")


def check(data: ImageDataModule, read: bool = True) -> DataReport:
    """Counts the images of a data set, and reads every file if asked to.

    Data that are not image files are read anyway. Of files, finds masks without an image; by reading, those
    that cannot be read, copies, masks that are empty, of another size than their image or of doubtful
    meaning, test images that are in the training too, or are both normal and anomalous, and files below the
    root that are not used.
    """
    report = DataReport()
    if not isinstance(data, FileDataModule):
        _count(data, report)
        return report
    split = _split(data, report)
    test = _test_records(data, report) if split else None
    if not read or split is None:
        return report
    contents = split.contents | read_contents([record.path for record in test or []], data.max_pixels)
    report.problems += [content.error for content in contents.values() if content.error]
    report.sizes.update(content.picture.description for content in contents.values() if content.picture)
    report.problems += [*filter(None, [split.about_copies()]), *data.doubts(), *_odd_ones(split)]
    report.problems += _duplicates(contents, split, test or [])
    report.notes += _frames(
        {path: content.picture.frames for path, content in contents.items() if content.picture}
    )
    for record in test or []:
        if contents[record.path].picture and record.mask is not None:
            _check_mask(record, report, data.max_pixels)
    report.problems += _unexplained_levels(data.root, test or [], data.max_pixels)
    _check_unused(data, {*split.contents, *_files_of(test or [])}, test is not None, report)
    return report


def changes_since(run: str, data: ImageDataModule) -> list[str]:
    """What has happened to the images of a run since it was trained, one sentence.

    Raises:
        InputError: If the run does not say which images it was trained with.
    """
    path = Path(os.path.expanduser(run)) / "data.json"
    try:
        before = Manifest.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not say which images {run} was trained with") from error
    now = data.manifest()
    said = str(compare(before, now)) if now is not None else ""
    return [f"images have changed since {run} was trained: {said}"] if said else []


def _count(data: ImageDataModule, report: DataReport) -> None:
    try:
        data.setup("fit")
        data.setup("test")
    except InputError as error:
        report.problems.append(str(error))
        return
    sets = {"training": data.train_set, "validation": data.val_set}
    report.counts |= {name: len(cast(Sized, samples)) for name, samples in sets.items()}
    kinds = Counter(data.test_set[index]["kind"] for index in range(len(cast(Sized, data.test_set))))
    report.counts |= {f"test {kind}": count for kind, count in sorted(kinds.items())}


def _split(data: FileDataModule, report: DataReport) -> Split | None:
    """Images to train and validate with; None where something stops the listing, which is reported."""
    try:
        split = data.split()
    except InputError as error:
        report.problems.append(str(error))
        return None
    report.counts |= {"training": len(split.training), "validation": len(split.validation)}
    return split


def _test_records(data: FileDataModule, report: DataReport) -> list[Record] | None:
    """Images to test with; training needs none, so that it is only noted what stops their listing."""
    try:
        test, problems = data.test_records()
    except InputError as error:
        report.notes.append(str(error))
        return None
    report.problems += problems
    report.counts |= {f"test {kind}": count for kind, count in Counter(r.kind for r in test).items()}
    report.masks.update("without" if record.mask is None else "with" for record in test if record.label)
    return test


def _frames(frames: dict[Path, int]) -> list[str]:
    """Names files of several pictures."""
    several = [path for path, count in frames.items() if count > 1]
    return [f"of files with several pictures, the first one is read: {first_few(several)}"] if several else []


def _odd_ones(split: Split) -> list[str]:
    """Names what may be masks among the normal images: those of two values, where others have more."""
    pictures = {path: content.picture for path, content in split.contents.items() if content.picture}
    odd = [path for path, picture in pictures.items() if picture.is_two_valued]
    if not odd or 2 * len(odd) > len(pictures):
        return []
    return [f"{len(odd)} of the normal images have two values at most, as masks do: {first_few(odd)}"]


def _duplicates(contents: dict[Path, Content], split: Split, test: Sequence[Record]) -> list[str]:
    trained = {content.identity: path for path, content in reversed(split.contents.items())}
    tested: dict[str, Record] = {}
    problems = []
    for record in test:
        identity = contents[record.path].identity
        if identity in trained:
            problems.append(f"test image {record.path} is the training image {trained[identity]}")
        other = tested.setdefault(identity, record)
        if other.label != record.label:
            problems.append(f"test image {record.path} ({record.kind}) is {other.path} ({other.kind})")
    return problems


def _check_mask(record: Record, report: DataReport, max_pixels: int) -> None:
    path, mask = record.path, record.mask
    assert mask is not None
    try:
        marks = read_marks(mask, max_pixels)
    except InputError as error:
        report.problems.append(str(error))
        return
    if mask.is_file():
        report.notes += _frames({mask: count_frames(mask)})
    size, image_size = marks.pixels.shape[::-1], upright_size(path)
    if size != image_size:
        report.problems.append(f"mask {mask} is {size} pixels, but its image {path} is {image_size}")
    elif marks.pixels.any() != bool(record.label):
        what = "no pixel" if record.label else "pixels of a normal image"
        report.problems.append(f"mask {mask} marks {what}")
    elif marks.problem:
        report.problems.append(f"mask {mask} {marks.problem}")
    elif looks_inverted(marks.pixels):
        report.problems.append(
            f"mask {mask} marks {marks.pixels.mean():.0%} of its image and all of its border; 0, black or "
            "transparent has to be what is normal"
        )
    elif marks.note:
        report.notes.append(f"mask {mask} {marks.note}")


def _unexplained_levels(root: Path, test: Sequence[Record], max_pixels: int) -> list[str]:
    """Names levels of the masks of MVTec LOCO AD's layout that its file of defects does not explain."""
    explained = {0, 1, 255, *_levels_of_defects(root / DEFECTS)}
    found: dict[float, Path] = {}
    for record in test:
        if record.mask is not None and record.mask.is_dir():
            for path in list_images(record.mask):
                with suppress(InputError):  # reported already
                    levels = np.unique(levels_of(open_image(path, max_pixels)))
                    found |= dict.fromkeys(levels.tolist(), path) if len(levels) <= FEW else {}
    unknown = sorted(found.keys() - explained)
    if not unknown:
        return []
    return [
        f"no {DEFECTS} in {root} explains level {first_few(f'{level:g}' for level in unknown)} of "
        f"masks such as {found[unknown[0]]}, which counts as anomalous as every level but 0 does"
    ]


def _levels_of_defects(path: Path) -> list[int]:
    """The levels by which MVTec LOCO AD's masks tell kinds of defects apart."""
    try:
        return [defect["pixel_value"] for defect in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _check_unused(data: FileDataModule, used: set[Path], tested: bool, report: DataReport) -> None:
    """Names the files below the root that are neither used nor named already."""
    known = {os.path.realpath(path) for path in used}
    named = " ".join([*report.problems, ""])
    of_reason: dict[str, list[str]] = defaultdict(list)
    for path in sorted(files_below(data.root)):
        if os.path.realpath(path) in known or f"{path} " in named or path == data.root / DEFECTS:
            continue
        reason = why_left_out(path, data.root) or UNUSED
        of_reason[reason].append(path.relative_to(data.root).as_posix())
    for reason, paths in sorted(of_reason.items()):
        is_problem = reason in (UNKNOWN, BROKEN) or (reason == UNUSED and data.uses_all and tested)
        sentences = report.problems if is_problem else report.notes
        sentences.append(f"{reason}: {len(paths)} ({first_few(paths, 5)})")


def _files_of(test: Sequence[Record]) -> Iterator[Path]:
    for record in test:
        yield record.path
        if record.mask is not None:
            yield from list_images(record.mask) if record.mask.is_dir() else [record.mask]
