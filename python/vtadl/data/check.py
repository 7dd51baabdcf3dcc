"""What is in a data set, and what is wrong with it, before any training."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vtadl.data.file_module import FileDataModule
from vtadl.data.images import open_image, read_marked, upright_size
from vtadl.data.module import ImageDataModule
from vtadl.data.records import Record
from vtadl.errors import InputError


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


class Content(NamedTuple):
    """An image file that can be read."""

    description: str  # size and mode
    digest: bytes  # of the pixels


def check(data: ImageDataModule, read: bool = True) -> DataReport:
    """Counts the images of a data set, and reads every file if asked to.

    Data that are not image files are read anyway. Of files, finds masks without an image; by reading, those
    that cannot be read, masks that are empty or of another size than their image, and test images that are in
    the training too, or are both normal and anomalous.
    """
    report = DataReport()
    if not isinstance(data, FileDataModule):
        _count(data, report)
        return report
    train, test = _list(data, report)
    if not read:
        return report
    contents = _read([*train, *(record.path for record in test)], report)
    report.sizes.update(content.description for content in contents.values())
    report.problems += _duplicates(contents, train, test)
    for record in test:
        if record.path in contents and record.mask is not None:
            report.problems += _mask_problems(record.path, record.mask, record.label)
    return report


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


def _list(data: FileDataModule, report: DataReport) -> tuple[list[Path], list[Record]]:
    """Images to train and validate with, and to test with; what stops a listing is reported."""
    try:
        train = data.normal_images()
        report.counts |= dict(zip(("training", "validation"), map(len, data.split(train)), strict=True))
    except InputError as error:
        report.problems.append(str(error))
        return [], []
    try:
        test, problems = data.test_records()
    except InputError as error:
        report.notes.append(str(error))
        return train, []
    report.problems += problems
    report.counts |= {f"test {kind}": count for kind, count in Counter(r.kind for r in test).items()}
    report.masks.update("without" if record.mask is None else "with" for record in test if record.label)
    return train, test


def _read(paths: Sequence[Path], report: DataReport) -> dict[Path, Content]:
    def read(path: Path) -> Content | InputError:
        try:
            image = open_image(path)
        except InputError as error:
            return error
        description = f"{image.width}x{image.height} {image.mode}"
        return Content(description, hashlib.blake2b(description.encode() + image.tobytes()).digest())

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        results = dict(zip(paths, threads.map(read, paths), strict=True))
    report.problems += [str(error) for error in results.values() if isinstance(error, InputError)]
    return {path: content for path, content in results.items() if isinstance(content, Content)}


def _duplicates(contents: dict[Path, Content], train: Sequence[Path], test: Sequence[Record]) -> list[str]:
    trained = {contents[path].digest: path for path in train if path in contents}
    tested: dict[bytes, Record] = {}
    problems = []
    for record in test:
        if record.path not in contents:
            continue
        digest = contents[record.path].digest
        if digest in trained:
            problems.append(f"test image {record.path} is the training image {trained[digest]}")
        other = tested.setdefault(digest, record)
        if other.label != record.label:
            problems.append(f"test image {record.path} ({record.kind}) is {other.path} ({other.kind})")
    return problems


def _mask_problems(path: Path, mask: Path, label: int) -> list[str]:
    try:
        marked = read_marked(mask)
    except InputError as error:
        return [str(error)]
    if marked.size != upright_size(path):
        return [f"mask {mask} is {marked.size} pixels, but its image {path} is {upright_size(path)}"]
    if (marked.getbbox() is not None) != bool(label):
        return [f"mask {mask} marks {'no pixel' if label else 'pixels of a normal image'}"]
    return []
