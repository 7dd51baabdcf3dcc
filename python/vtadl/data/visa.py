"""The data module of VisA, whose images a table assigns to training and testing."""

import csv
from pathlib import Path
from typing import NamedTuple

from vtadl.data.mvtec import KindFolders
from vtadl.data.records import Record
from vtadl.errors import InputError

_TABLE = Path("split_csv", "1cls.csv")
_COLUMNS = ("object", "split", "label", "image", "mask")
_NORMAL = "normal"


class _Row(NamedTuple):
    """A row of the table, with the paths of its files."""

    split: str  # train or test
    label: str  # normal or anomaly
    image: Path
    mask: Path | None


class Visa(KindFolders):
    """Categories of VisA (Zou et al., ECCV 2022), as published or reorganised like MVTec AD.

    As published, `split_csv/1cls.csv` beside the categories' folders assigns the images to training and
    testing. Without this table, a category's folder has to contain `train/good`, `test/good` and `test/bad`.
    """

    normal = "good"
    layout = (
        "expected split_csv/1cls.csv beside the categories' folders, or train/good, test/{good,bad} and "
        "ground_truth/bad in a category's folder. VisA: https://github.com/amazon-science/spot-diff, "
        "CC BY 4.0"
    )

    def normal_images(self) -> list[Path]:
        if not self._is_published():
            return super().normal_images()
        images: list[Path] = []
        for folder in self.folders:
            rows = [row for row in _read_table(folder) if row.split == "train"]
            anomalous = next((row.image for row in rows if row.label != _NORMAL), None)
            if anomalous is not None:
                raise InputError(f"{folder.parent / _TABLE} would train with the anomalous image {anomalous}")
            self.require_images([row.image for row in rows], folder)
            images += sorted(row.image for row in rows)
        return images

    def _test_records(self, folder: Path) -> tuple[list[Record], list[str]]:
        if not self._is_published():
            return super()._test_records(folder)
        rows = [row for row in _read_table(folder) if row.split == "test"]
        self.require_images([row.image for row in rows], folder)
        return [self._record_of(row) for row in sorted(rows, key=lambda row: row.image)], []

    def _record_of(self, row: _Row) -> Record:
        category = self.category_of(row.image)
        if row.label == _NORMAL:
            return Record(row.image, 0, row.mask, category=category)
        return Record(row.image, 1, row.mask, row.label, category)

    def _is_published(self) -> bool:
        """Returns whether the images are assigned by the table, and not by folders of training images."""
        return any((folder.parent / _TABLE).is_file() for folder in self.folders) and not any(
            (folder / "train" / self.normal).is_dir() for folder in self.folders
        )


def _read_table(folder: Path) -> list[_Row]:
    """Reads the rows of a category from the table beside its folder.

    Raises:
        InputError: If the table cannot be read, lacks a column, or names a file that does not exist.
    """
    table = folder.parent / _TABLE
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            rows = [row for row in reader if row.get("object") == folder.name]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the table {table}: {error}") from error
    if missing:
        raise InputError(f"the table {table} has no column {missing[0]}; expected {','.join(_COLUMNS)}")
    if not rows:
        raise InputError(f"the table {table} lists no image of the category {folder.name}")
    return [_checked_row(row, table) for row in rows]


def _checked_row(row: dict[str, str], table: Path) -> _Row:
    for column, values in (("split", ("train", "test")), ("label", (_NORMAL, "anomaly"))):
        if row[column] not in values:
            raise InputError(
                f"the table {table} has the {column} {row[column]}; expected {' or '.join(values)}"
            )
    files = [table.parent.parent / row[name] for name in ("image", "mask") if row[name]]
    for file in files:
        if not file.is_file():
            raise InputError(f"the table {table} lists {file}, which does not exist")
    return _Row(row["split"], row["label"], files[0], files[1] if len(files) > 1 else None)
