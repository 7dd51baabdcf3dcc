"""Data sets of image files."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils.data import Dataset

from vtadl.data.images import Fit, Pixels, list_images, read_mask, read_pixels, to_tensor
from vtadl.data.module import Sample
from vtadl.data.records import Record
from vtadl.errors import InputError
from vtadl.model import as_pair


class ImageFiles(Dataset[Sample]):
    """Reads the images of a list of records, and their masks.

    With `cache` all images are read at once, by as many threads as there are cores, and kept: three bytes a
    pixel.
    """

    def __init__(
        self, records: Sequence[Record], size: tuple[int, int], fit: Fit = "stretch", cache: bool = False
    ) -> None:
        self.records = records
        self.size = size
        self.fit: Fit = fit
        self.cached: list[Pixels] = []
        if cache:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                self.cached = list(threads.map(self._pixels, range(len(records))))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        path, label, mask, kind = self.records[index]
        return Sample(
            image=to_tensor(self.cached[index] if self.cached else self._pixels(index)),
            label=torch.tensor(label),
            mask=torch.zeros(1, *self.size) if mask is None else read_mask(mask, path, self.size, self.fit),
            has_mask=torch.tensor(mask is not None or label == 0),
            kind=kind,
            name=str(path),
        )

    def _pixels(self, index: int) -> Pixels:
        return read_pixels(self.records[index].path, self.size, self.fit)


class ImageFolder(Dataset[Sample]):
    """Every image below a folder, without labels; `name` is the path relative to the folder."""

    def __init__(self, root: Path, image_size: int | tuple[int, int], fit: Fit = "stretch") -> None:
        self.root = root
        self.paths = list_images(root, "**/*")
        if not self.paths:
            raise InputError(f"there is no png, jpg, jpeg, bmp, tif, tiff or webp image in {root}")
        self.files = ImageFiles([Record(path) for path in self.paths], as_pair(image_size), fit)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        sample = self.files[index]
        sample["name"] = self.paths[index].relative_to(self.root).as_posix()
        return sample
