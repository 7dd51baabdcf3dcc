"""Image folders: the layout of MVTec AD, and plain folders without labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from vtadl.data.images import list_images, read_image, read_mask
from vtadl.data.module import ImageDataModule, Sample
from vtadl.errors import InputError
from vtadl.model import as_pair

LAYOUT = "train/good, test/<kind>, and optionally ground_truth/<kind>/<name>_mask.png"


class Record(NamedTuple):
    """Where a sample comes from."""

    path: Path
    label: int
    mask: Path | None


class ImageFiles(Dataset[Sample]):
    """Reads the images of a list of records, and their masks."""

    def __init__(self, records: Sequence[Record], size: tuple[int, int]) -> None:
        self.records = records
        self.size = size

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        path, label, mask_path = self.records[index]
        mask = torch.zeros(1, *self.size) if mask_path is None else read_mask(mask_path, path, self.size)
        return Sample(
            image=read_image(path, self.size),
            label=torch.tensor(label),
            mask=mask,
            has_mask=torch.tensor(mask_path is not None or label == 0),
            kind=path.parent.name if label else "good",
            name=str(path),
        )


class MVTecFolder(ImageDataModule):
    """One category in the layout of MVTec AD (Bergmann et al., CVPR 2019).

    The images of `train/good` are for training; a random part of them is held out for validation. An
    image of `test/good` is normal, and one of any other `test/<kind>` is anomalous.
    """

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int] = 64,
        batch_size: int = 16,
        val_fraction: float = 0.1,
        workers: int = 2,
        seed: int = 0,
    ) -> None:
        """Remembers where the images are.

        Args:
            root: Folder of the category.
            image_size: Height and width to resize to, or one number for both.
            batch_size: Images in a batch.
            val_fraction: Part of the training images that is held out.
            workers: Processes that read images.
            seed: Seed of the split and of the training order.
        """
        super().__init__(image_size, batch_size, workers, seed)
        self.root = Path(root)
        self.val_fraction = val_fraction

    def setup(self, stage: str) -> None:
        """Lists the images.

        Raises:
            InputError: If a folder is missing or empty, or a mask has no image.
        """
        if not self.root.is_dir():
            raise InputError(f"there is no folder {self.root}; expected {LAYOUT} in it")
        if stage == "test":
            self.test_set = ImageFiles(list_test_records(self.root), self.image_size)
        else:
            train, val = self._split(_require_images(self.root / "train" / "good"))
            self.train_set, self.val_set = (ImageFiles(part, self.image_size) for part in (train, val))

    def _split(self, paths: Sequence[Path]) -> tuple[list[Record], list[Record]]:
        if len(paths) < 3:
            raise InputError(f"{paths[0].parent} needs at least 3 images, 2 of them for validation")
        order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(self.seed)).tolist()
        held_out = min(max(2, round(self.val_fraction * len(paths))), len(paths) - 1)
        records = [Record(paths[index], 0, None) for index in order]
        return sorted(records[held_out:]), sorted(records[:held_out])


class ImageFolder(Dataset[Sample]):
    """Every image below a folder, without labels; `name` is the path relative to the folder."""

    def __init__(self, root: Path, image_size: int | tuple[int, int]) -> None:
        self.root = root
        self.paths = list_images(root, recursive=True)
        if not self.paths:
            raise InputError(f"there is no png, jpg, jpeg or bmp image in {root}")
        self.files = ImageFiles([Record(path, 0, None) for path in self.paths], as_pair(image_size))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        sample = self.files[index]
        sample["name"] = self.paths[index].relative_to(self.root).as_posix()
        return sample


def list_test_records(root: Path) -> list[Record]:
    """The test images of a category in the layout of MVTec AD, sorted by path, with their masks.

    Raises:
        InputError: If there is no test image, a mask has no image, or two images have one mask.
    """
    kinds = sorted(path for path in (root / "test").glob("*") if path.is_dir())
    images = [path for kind in kinds for path in _require_images(kind)]
    if not images:
        raise InputError(f"there is no image in {root / 'test'}; expected {LAYOUT} in {root}")
    masks = {
        (path.parent.name, path.stem): path for path in list_images(root / "ground_truth", recursive=True)
    }
    records = [
        Record(path, int(path.parent.name != "good"), masks.get((path.parent.name, f"{path.stem}_mask")))
        for path in images
    ]
    used = [record.mask for record in records if record.mask is not None]
    for mask in masks.values():
        if used.count(mask) != 1:
            found = "no image" if mask not in used else "several images"
            raise InputError(
                f"mask {mask} has {found} named {mask.stem.removesuffix('_mask')} in {root / 'test'}"
            )
    return records


def _require_images(folder: Path) -> list[Path]:
    paths = list_images(folder)
    if not paths:
        raise InputError(f"there is no image in {folder}; expected {LAYOUT} in the category's folder")
    return paths
