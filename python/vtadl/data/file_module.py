"""The base class of data modules that read image files."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import ConcatDataset, Dataset

from vtadl.common.files import absolute_path
from vtadl.common.ranges import require_at_most, require_fraction, require_not_negative, require_positive
from vtadl.data.augmentation import Augmentation
from vtadl.data.files import ImageFiles, collate_tiles, collate_with_masks
from vtadl.data.images import MAX_PIXELS
from vtadl.data.manifest import Manifest
from vtadl.data.module import ImageDataModule, Sample
from vtadl.data.records import Record
from vtadl.data.split import Split, split_images, tested_copies_message
from vtadl.errors import InputError
from vtadl.images.pixels import ResizeMode
from vtadl.images.tiles import as_pair

if TYPE_CHECKING:
    from typing_extensions import Unpack as Unpack
else:
    # jsonargparse would take options from an unpacked type, which has neither their defaults nor their help.
    Unpack = dict


class FileOptions(TypedDict, total=False):
    """The options of every data module that reads image files, see :class:`FileDataModule`."""

    image_size: int | tuple[int, int]
    batch_size: int
    val_fraction: float
    resize_mode: ResizeMode
    augmentation: Augmentation | None
    cache_gb: float
    max_pixels: int
    workers: int
    seed: int
    evaluation_size: int | tuple[int, int] | None


class FileDataModule(ImageDataModule):
    """Trains and validates with normal images; test images and their labels are read for testing alone.

    Validation images are a random part of the normal images, unless the layout has a folder for them. A
    detector that trains no network is fitted to them as well. Before `setup("test")`, test files are only
    compared with training files of the same length, to report copies.
    """

    layout: ClassVar[str]  # one sentence: the expected files and, for published data, where to download them
    uses_all_files: ClassVar[bool] = True  # whether an image that is not used is a problem
    unlabelled: ClassVar[tuple[str, ...]] = ()  # folders of a category with images for `vtadl predict` alone

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int] = 256,
        batch_size: int = 16,
        val_fraction: float = 0.1,
        resize_mode: ResizeMode = "stretch",
        augmentation: Augmentation | None = None,
        cache_gb: float = 2.0,
        max_pixels: int = MAX_PIXELS,
        workers: int = 2,
        seed: int = 0,
        evaluation_size: int | tuple[int, int] | None = None,
    ) -> None:
        """Stores the settings; no file is read.

        Args:
            root: Folder of the images.
            image_size: Height and width in pixels to which images are resized, or one number for both.
            batch_size: Number of images in a batch.
            val_fraction: Fraction of the normal images that is held out for validation, where a network is
                trained. Otherwise a detector is fitted to all of them.
            resize_mode: How images of another shape get `image_size`. `stretch` changes the aspect ratio;
                `crop` cuts both ends of the longer side; `tiles` cuts the image into overlapping tiles along
                the longer side, and joins their scores and maps.
            augmentation: Random changes of the training images; none by default.
            cache_gb: Gigabytes of memory for resized training and validation images. A pixel takes twelve
                bytes, or four if it is grey. Images beyond this limit are read again in each epoch.
            max_pixels: Files with more pixels are refused, because they could exhaust the memory.
            workers: Number of processes that read images which are not in memory.
            seed: Seed of the split and of the order of training images.
            evaluation_size: Height and width in pixels, or one number for both, to which masks are resized
                for the metrics of pixels, as images are to `image_size`. By default masks keep the size of
                their files, as in published results.

        Raises:
            InputError: If a number is out of its range.
        """
        super().__init__(image_size, batch_size, seed, augmentation)
        self.root = Path(absolute_path(root))  # valid after a change of the working directory, too
        self.val_fraction = val_fraction
        self.resize_mode: ResizeMode = resize_mode
        require_not_negative(cache_gb=cache_gb, workers=workers)
        require_at_most(1000, workers=workers)
        require_positive(max_pixels=max_pixels)
        self.cache_gb = cache_gb
        self.max_pixels = max_pixels
        self.workers = workers
        self.evaluation_size = None if evaluation_size is None else as_pair(evaluation_size)
        require_positive(evaluation_size=self.evaluation_size and min(self.evaluation_size))

    def category_of(self, path: Path) -> str:
        """Returns the name of the product that an image shows; it may be empty if there is only one."""
        return self.categories[0]

    @property
    def folders(self) -> list[Path]:
        """The folders of the categories."""
        return [self.root]

    @abstractmethod
    def normal_images(self) -> list[Path]:
        """Lists the images to train and validate with, sorted."""

    def validation_images(self) -> list[Path]:
        """Lists the images of the layout's validation folder; empty if the layout has none."""
        return []

    @abstractmethod
    def test_records(self) -> tuple[list[Record], list[str]]:
        """Lists the test images, sorted by path, and problems of their masks, one sentence each."""

    def setup(self, stage: str) -> None:
        """Lists the images, and reads those that are kept in memory.

        Raises:
            InputError: If a folder is missing or holds no images, or a mask has no image.
        """
        if stage == "test":
            records, problems = self.test_records()
            if problems:
                raise InputError(problems[0])
            self.test_set = ImageFiles(
                records,
                self.image_size,
                self.resize_mode,
                max_pixels=self.max_pixels,
                mask_size=self.evaluation_size or "file",
            )
        else:
            split = self.split()
            copies = (split.copies_message(), tested_copies_message(split, self._tested_paths()))
            for sentence in filter(None, [*copies, *self.warnings()]):
                rank_zero_info(sentence)
            parts = [
                [Record(path, category=self.category_of(path)) for path in part]
                for part in (split.training, split.validation)
            ]
            bytes_per_image = 1e9 * self.cache_gb / sum(map(len, parts))
            self.train_set, self.val_set = (
                ImageFiles(
                    part, self.image_size, self.resize_mode, bytes_per_image * len(part), self.max_pixels
                )
                for part in parts
            )
            self.unvalidated = split.unvalidated
            if not split.validation:
                self.val_set = self.train_set

    def _num_workers(self, dataset: Dataset[Sample]) -> int:
        parts = dataset.datasets if isinstance(dataset, ConcatDataset) else [dataset]
        in_memory = all(isinstance(part, ImageFiles) and part.is_in_memory for part in parts)
        return 0 if in_memory else self.workers

    def _batch_options(self, training: bool) -> dict[str, Any]:
        if not training:  # with tiles the images may differ in size
            batch_size = 1 if self.resize_mode == "tiles" else self.batch_size
            masks_differ = self.evaluation_size is None
            return {"batch_size": batch_size} | ({"collate_fn": collate_with_masks} if masks_differ else {})
        if self.resize_mode != "tiles":
            return super()._batch_options(training)
        return {"batch_size": self.batch_size, "collate_fn": partial(collate_tiles, tile=self.image_size)}

    def split(self) -> Split:
        """Splits the normal images; the result depends only on their contents and the seed.

        Raises:
            InputError: If there are too few images.
        """
        require_fraction(val_fraction=self.val_fraction)
        return split_images(
            self.normal_images(),
            self.validation_images(),
            self.category_of,
            self.val_fraction,
            self.seed,
            self.max_pixels,
        )

    def manifest(self) -> Manifest:
        """Lists the images to train and validate with, including copies."""
        return Manifest(absolute_path(self.root), self.split().entries(self.root))

    def _tested_paths(self) -> list[Path]:
        """Lists the test images; none if they are missing, because training needs none."""
        try:
            return [record.path for record in self.test_records()[0]]
        except InputError:
            return []

    def warnings(self) -> list[str]:
        """Returns sentences about normal images that may have been chosen by mistake."""
        return []

    def require_images(self, paths: Sequence[Path], folder: Path) -> None:
        """Raises InputError, which describes the expected layout, if `paths` is empty."""
        if not self.root.is_dir():
            raise InputError(f"there is no folder {self.root}; {self.layout}")
        if not paths:
            raise InputError(f"there is no image in {folder}; {self.layout}")
