"""Data sets of image files."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from vtadl.data.images import MAX_PIXELS, read_channels, read_mask
from vtadl.data.module import Sample
from vtadl.data.records import Record
from vtadl.errors import InputError
from vtadl.images.pixels import Pixels, ResizeMode, to_tensor
from vtadl.images.tiles import cut

_READ_AT_ONCE = 64


class ImageFiles(Dataset[Sample]):
    """Reads the images of a list of records, and their masks.

    The first ones, as many as `cache_bytes` hold, are read at once and kept: twelve bytes a pixel, four
    if it is grey, and a quarter of that where it has the size of the network already.
    """

    def __init__(
        self,
        records: Sequence[Record],
        size: tuple[int, int],
        resize_mode: ResizeMode = "stretch",
        cache_bytes: float = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.records = records
        self.size = size
        self.resize_mode: ResizeMode = resize_mode
        self.max_pixels = max_pixels
        self.cached = self._read_first(cache_bytes) if cache_bytes else []

    def __len__(self) -> int:
        return len(self.records)

    @property
    def is_in_memory(self) -> bool:
        """Whether all images are kept."""
        return len(self.cached) == len(self)

    def __getitem__(self, index: int) -> Sample:
        path, label, mask, kind = self.records[index]
        image = to_tensor(self.cached[index] if index < len(self.cached) else self._pixels(index))
        unmarked = torch.zeros(1, *image.shape[1:])
        return Sample(
            image=image,
            label=torch.tensor(label),
            mask=unmarked if mask is None else self._mask(index),
            has_mask=torch.tensor(mask is not None or label == 0),
            kind=kind,
            name=str(path),
        )

    def _read_first(self, most_bytes: float) -> list[Pixels]:
        """As many images as need no more bytes than that, read by as many threads as there are cores."""
        kept: list[Pixels] = []
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for start in range(0, len(self), _READ_AT_ONCE):
                for pixels in threads.map(self._pixels, range(len(self))[start : start + _READ_AT_ONCE]):
                    most_bytes -= pixels.nbytes
                    if most_bytes < 0:
                        return kept
                    kept.append(pixels)
        return kept

    def _mask(self, index: int) -> Tensor:
        path, label, mask, _ = self.records[index]
        assert mask is not None
        marked = read_mask(mask, path, self.size, self.resize_mode, self.max_pixels)
        if not label and marked.any():
            raise InputError(f"mask {mask} marks pixels of a normal image, {path}")
        return marked

    def _pixels(self, index: int) -> Pixels:
        return read_channels(self.records[index].path, self.size, self.resize_mode, self.max_pixels)


def collate_tiles(samples: Sequence[Sample], tile: tuple[int, int]) -> Sample:
    """A batch of the tiles of all images, each a sample of its own."""
    tiles = [
        {**sample, "image": image, "mask": mask}
        for sample in samples
        for image, mask in zip(cut(sample["image"][None], tile), cut(sample["mask"][None], tile), strict=True)
    ]
    return cast(Sample, default_collate(tiles))
