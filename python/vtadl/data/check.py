"""Checks of a data set before training: `vtadl data`."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import cast

from vtadl.common.text import first_few
from vtadl.data.check_masks import DEFECTS_CONFIG, check_mask, multiple_frames, unexplained_levels
from vtadl.data.content import FileContent, read_contents
from vtadl.data.data_report import DataReport
from vtadl.data.file_module import FileDataModule
from vtadl.data.globs import walk_files
from vtadl.data.listing import BROKEN_LINK, UNKNOWN_SUFFIX, exclusion_reason, list_images
from vtadl.data.manifest import Manifest, compare
from vtadl.data.module import ImageDataModule
from vtadl.data.records import Record
from vtadl.data.split import Split
from vtadl.errors import InputError

UNUSED = "images in folders that are not used"
UNLABELLED = "images without labels, which `vtadl predict` can score"


def check(data: ImageDataModule, read: bool = True) -> DataReport:
    """Counts the images of a data set and, if `read` is set, reads and checks every file.

    Data sets that do not consist of image files are only counted. Without reading, the check finds masks
    without an image, and normal images with names of anomalous ones. With reading, it also finds unreadable
    files, copies, files that are not used, test images that are training images or are both normal and
    anomalous, and masks that are empty, doubtful, or of another size than their image.
    """
    report = DataReport()
    if not isinstance(data, FileDataModule):
        _count(data, report)
        return report
    split = _split(data, report)
    test = _test_records(data, report) if split else None
    if split is not None:
        report.problems += data.warnings()
    if read and split is not None:
        _check_files(data, split, test, report)
    return report


def changes_since(run: str, data: ImageDataModule) -> list[str]:
    """Returns a sentence about the images that have changed since a run was trained, if there are any.

    Raises:
        InputError: If the folder of the run does not list its training images.
    """
    path = Path(os.path.expanduser(run)) / "data.json"
    try:
        before = Manifest.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not list the images that {run} was trained with") from error
    now = data.manifest()
    changes = str(compare(before, now)) if now is not None else ""
    return [f"images have changed since {run} was trained: {changes}"] if changes else []


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
    """Lists training and validation images; an error is reported as a problem, and the result is None."""
    try:
        split = data.split()
    except InputError as error:
        report.problems.append(str(error))
        return None
    for part, paths in (("training", split.training), ("validation", split.validation)):
        counts = Counter(map(data.category_of, paths))
        report.counts |= {_counted(data, category, part): count for category, count in counts.items()}
    return split


def _test_records(data: FileDataModule, report: DataReport) -> list[Record] | None:
    """Lists test images; an error is only noted, because training needs none, and the result is None."""
    try:
        test, problems = data.test_records()
    except InputError as error:
        report.notes.append(str(error))
        return None
    report.problems += problems
    counts = Counter((record.category, f"test {record.kind}") for record in test)
    report.counts |= {_counted(data, *images): count for images, count in counts.items()}
    report.masks.update("without" if record.mask is None else "with" for record in test if record.label)
    return test


def _counted(data: FileDataModule, category: str, part: str) -> str:
    """Names images that are counted; their category is named if there are several."""
    return f"{category} {part}" if len(data.categories) > 1 else part


def _check_files(data: FileDataModule, split: Split, test: list[Record] | None, report: DataReport) -> None:
    records = test or []
    contents = split.contents | read_contents([record.path for record in records], data.max_pixels)
    images = {path: content.image for path, content in contents.items() if content.image}
    report.problems += [content.error for content in contents.values() if content.error]
    report.sizes.update(image.description for image in images.values())
    report.problems += [*filter(None, [split.copies_message()]), *_mask_like_images(split)]
    report.problems += _leaked_images(contents, split, records)
    report.notes += multiple_frames({path: image.frames for path, image in images.items()})
    for record in records:
        if record.path in images and record.mask is not None:
            check_mask(record, report, data.max_pixels)
    for folder in data.folders:
        own = [record for record in records if record.path.is_relative_to(folder)]
        report.problems += unexplained_levels(folder, own, data.max_pixels)
    _check_unused(data, {*split.contents, *_files_of(records)}, test is not None, report)


def _mask_like_images(split: Split) -> list[str]:
    """Finds masks among the normal images: images of two values, if most images have more."""
    images = {path: content.image for path, content in split.contents.items() if content.image}
    suspects = [path for path, image in images.items() if image.is_two_valued]
    if not suspects or 2 * len(suspects) > len(images):
        return []
    return [
        f"{len(suspects)} of the normal images have at most two values, as masks have: {first_few(suspects)}"
    ]


def _leaked_images(contents: dict[Path, FileContent], split: Split, test: Sequence[Record]) -> list[str]:
    """Finds test images that are training images too, or that occur with both labels."""
    training = {content.identity: path for path, content in reversed(split.contents.items())}
    first_with: dict[str, Record] = {}
    problems = []
    for record in test:
        identity = contents[record.path].identity
        if identity in training:
            problems.append(f"test image {record.path} is the training image {training[identity]}")
        other = first_with.setdefault(identity, record)
        if other.label != record.label:
            problems.append(f"test image {record.path} ({record.kind}) is {other.path} ({other.kind})")
    return problems


def _check_unused(data: FileDataModule, used: set[Path], is_tested: bool, report: DataReport) -> None:
    """Reports the files below the root that are neither used nor named in another problem."""
    known = {os.path.realpath(path) for path in used}
    named = " ".join([*report.problems, ""])
    paths_by_reason: dict[str, list[str]] = defaultdict(list)
    configs = {folder / DEFECTS_CONFIG for folder in data.folders}
    unlabelled = [folder / name for folder in data.folders for name in data.unlabelled]
    for path in sorted(path for folder in data.folders for path in walk_files(folder)):
        if os.path.realpath(path) in known or f"{path} " in named or path in configs:
            continue
        unused = UNLABELLED if any(map(path.is_relative_to, unlabelled)) else UNUSED
        reason = exclusion_reason(path, data.root) or unused
        paths_by_reason[reason].append(path.relative_to(data.root).as_posix())
    for reason, paths in sorted(paths_by_reason.items()):
        is_problem = reason in (UNKNOWN_SUFFIX, BROKEN_LINK) or (
            reason == UNUSED and data.uses_all_files and is_tested
        )
        sentences = report.problems if is_problem else report.notes
        sentences.append(f"{reason}: {len(paths)} ({first_few(paths, 5)})")


def _files_of(test: Sequence[Record]) -> Iterator[Path]:
    for record in test:
        yield record.path
        if record.mask is not None:
            yield from list_images(record.mask) if record.mask.is_dir() else [record.mask]
