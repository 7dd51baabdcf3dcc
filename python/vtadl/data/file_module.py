"""What the data modules that read image files share: the split, and what is said where files are missing."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import Dataset

from vtadl.common.files import absolute_path
from vtadl.common.ranges import require_at_most, require_fraction, require_not_negative, require_positive
from vtadl.data.augmentation import Augmentation
from vtadl.data.files import ImageFiles, collate_tiles
from vtadl.data.images import MAX_PIXELS
from vtadl.data.manifest import Manifest
from vtadl.data.module import ImageDataModule, Sample
from vtadl.data.records import Record
from vtadl.data.split import Split, split_images
from vtadl.errors import InputError
from vtadl.images.pixels import ResizeMode


class FileDataModule(ImageDataModule):
    """Trains and validates on normal images, and knows the labels of the test images for testing alone.

    The validation images are a random part of the training images. Nothing below `test` is read before
    `setup("test")`.
    """

    layout: ClassVar[str]  # one sentence: the files expected, and for published data where to get them
    uses_all: ClassVar[bool] = True  # whether every image below the root is to be used

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int] = 128,
        batch_size: int = 16,
        val_fraction: float = 0.1,
        resize_mode: ResizeMode = "stretch",
        augmentation: Augmentation | None = None,
        cache_gb: float = 2.0,
        max_pixels: int = MAX_PIXELS,
        workers: int = 2,
        seed: int = 0,
    ) -> None:
        """Remembers where the images are.

        Args:
            root: Folder of the images.
            image_size: Height and width to resize to, or one number for both.
            batch_size: Images in a batch.
            val_fraction: Part of the training images that is held out for validation.
            resize_mode: How an image of another shape gets `image_size`: stretch; crop the longer side
                equally; or see it as overlapping tiles along the longer side, whose scores and maps are
                joined.
            augmentation: Random changes of the training images.
            cache_gb: Gigabytes of resized training and validation images to keep in memory, at twelve bytes a
                pixel, or four if it is grey; what is beyond is read again in each epoch.
            max_pixels: A file with more is refused, as it would fill the memory.
            workers: Processes that read images which are not in memory.
            seed: Seed of the split and of the training order.
        """
        super().__init__(image_size, batch_size, seed, augmentation)
        self.root = Path(os.path.expanduser(root))
        self.val_fraction = val_fraction
        self.resize_mode: ResizeMode = resize_mode
        require_not_negative(cache_gb=cache_gb, workers=workers)
        require_at_most(1000, workers=workers)
        require_positive(max_pixels=max_pixels)
        self.cache_gb = cache_gb
        self.max_pixels = max_pixels
        self.workers = workers

    @abstractmethod
    def normal_images(self) -> list[Path]:
        """The images to train and validate with, sorted."""

    def validation_images(self) -> list[Path]:
        """Images to validate with, where the layout has a place for them."""
        return []

    @abstractmethod
    def test_records(self) -> tuple[list[Record], list[str]]:
        """The test images, sorted by path, and what is wrong with their masks, one sentence each."""

    def setup(self, stage: str) -> None:
        """Lists the images, and reads those to keep in memory.

        Raises:
            InputError: If a folder is missing or has no images, or a mask has no image.
        """
        if stage == "test":
            records, problems = self.test_records()
            if problems:
                raise InputError(problems[0])
            self.test_set = ImageFiles(records, self.image_size, self.resize_mode, max_pixels=self.max_pixels)
        else:
            split = self.split()
            for sentence in filter(None, [split.about_copies(), *self.doubts()]):
                rank_zero_info(sentence)
            parts = [[Record(path) for path in part] for part in (split.training, split.validation)]
            bytes_each = 1e9 * self.cache_gb / sum(map(len, parts))
            self.train_set, self.val_set = (
                ImageFiles(part, self.image_size, self.resize_mode, bytes_each * len(part), self.max_pixels)
                for part in parts
            )

    def _workers(self, dataset: Dataset[Sample]) -> int:
        return 0 if isinstance(dataset, ImageFiles) and dataset.is_in_memory else self.workers

    def _batches(self, training: bool) -> dict[str, Any]:
        if self.resize_mode != "tiles":
            return super()._batches(training)
        if not training:  # images may differ in size
            return {"batch_size": 1}
        return {"batch_size": self.batch_size, "collate_fn": partial(collate_tiles, tile=self.image_size)}

    def split(self) -> Split:
        """Training and validation images: the same ones for the same contents and seed.

        Raises:
            InputError: If there are too few.
        """
        require_fraction(val_fraction=self.val_fraction)
        return split_images(
            self.normal_images(), self.validation_images(), self.val_fraction, self.seed, self.max_pixels
        )

    def manifest(self) -> Manifest:
        """The images that are trained and validated with, copies among them."""
        return Manifest(absolute_path(self.root), self.split().entries(self.root))

    def doubts(self) -> list[str]:
        """What may not be meant about the normal images, one sentence each."""
        return []

    def require_images(self, paths: Sequence[Path], where: Path) -> None:
        """Raises InputError, which says what is expected, unless there are images."""
        if not self.root.is_dir():
            raise InputError(f"there is no folder {self.root}; {self.layout}")
        if not paths:
            raise InputError(f"there is no image in {where}; {self.layout}")
