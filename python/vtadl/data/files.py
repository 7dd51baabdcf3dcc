"""The data set of image files."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from vtadl.data.images import MAX_PIXELS, read_channels
from vtadl.data.mask_files import MaskSize, read_mask
from vtadl.data.module import Sample
from vtadl.data.records import Record
from vtadl.errors import InputError
from vtadl.images.pixels import Pixels, ResizeMode, to_tensor
from vtadl.images.tiles import cut

_READ_CHUNK = 64  # images that are read before the size of the cache is checked


class ImageFiles(Dataset[Sample]):
    """Reads the images of a list of records, and their masks.

    The first images, as many as fit into `cache_bytes`, are read immediately and kept in memory. A pixel
    takes twelve bytes, or four if it is grey; an image of bytes that needs no resizing takes a quarter.
    """

    def __init__(
        self,
        records: Sequence[Record],
        size: tuple[int, int],
        resize_mode: ResizeMode = "stretch",
        cache_bytes: float = 0,
        max_pixels: int = MAX_PIXELS,
        mask_size: MaskSize = "image",
    ) -> None:
        """Lists the images, and reads those that are kept in memory.

        Args:
            records: The images, their labels and their masks.
            size: Height and width to which images are resized.
            resize_mode: How images of another shape get that size.
            cache_bytes: Bytes of memory for resized images.
            max_pixels: Files with more pixels are refused.
            mask_size: Size of the masks, see :func:`vtadl.data.mask_files.read_mask`.
        """
        self.records = records
        self.size = size
        self.resize_mode: ResizeMode = resize_mode
        self.max_pixels = max_pixels
        self.mask_size: MaskSize = mask_size
        self.cached = self._fill_cache(cache_bytes) if cache_bytes else []

    def __len__(self) -> int:
        return len(self.records)

    @property
    def is_in_memory(self) -> bool:
        """Whether all images are in memory."""
        return len(self.cached) == len(self)

    def __getitem__(self, index: int) -> Sample:
        path, label, mask, kind, category = self.records[index]
        image = to_tensor(self.cached[index] if index < len(self.cached) else self._pixels(index))
        is_empty = mask is None and self.mask_size == "image"
        return Sample(
            image=image,
            label=torch.tensor(label),
            mask=torch.zeros(1, *image.shape[1:]) if is_empty else self._mask(index),
            has_mask=torch.tensor(mask is not None or label == 0),
            kind=kind,
            name=str(path),
            category=category,
        )

    def _fill_cache(self, max_bytes: float) -> list[Pixels]:
        """Reads the first images that fit into `max_bytes`, in as many threads as there are cores."""
        cached: list[Pixels] = []
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for start in range(0, len(self), _READ_CHUNK):
                for pixels in threads.map(self._pixels, range(len(self))[start : start + _READ_CHUNK]):
                    max_bytes -= pixels.nbytes
                    if max_bytes < 0:
                        return cached
                    cached.append(pixels)
        return cached

    def _mask(self, index: int) -> Tensor:
        path, label, mask, *_ = self.records[index]
        values = read_mask(mask, path, self.size, self.resize_mode, self.max_pixels, self.mask_size)
        if not label and values.any():
            raise InputError(f"mask {mask} marks pixels of a normal image, {path}")
        return values

    def _pixels(self, index: int) -> Pixels:
        return read_channels(self.records[index].path, self.size, self.resize_mode, self.max_pixels)


def collate_with_masks(samples: Sequence[Sample]) -> Sample:
    """Collates samples to a batch whose masks are a list, because they may differ in size."""
    masks = [sample["mask"] for sample in samples]
    others = [{name: value for name, value in sample.items() if name != "mask"} for sample in samples]
    return cast(Sample, {**default_collate(others), "mask": masks})


def collate_tiles(samples: Sequence[Sample], tile: tuple[int, int]) -> Sample:
    """Collates samples to a batch in which every tile of every image is a sample."""
    tiles = [
        {**sample, "image": image, "mask": mask}
        for sample in samples
        for image, mask in zip(cut(sample["image"][None], tile), cut(sample["mask"][None], tile), strict=True)
    ]
    return cast(Sample, default_collate(tiles))
