"""The base class of all data modules: the type of a sample, and the data loaders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sized
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict, cast

import lightning as L
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, DistributedSampler, Sampler

from vtadl.common.ranges import require_not_negative, require_positive
from vtadl.data.augmentation import Augmentation
from vtadl.data.manifest import Manifest
from vtadl.images.tiles import as_pair


class _Category(TypedDict, total=False):
    category: str  # name of the product, if the data set names it


class Sample(_Category):
    """An image and its labels.

    A batch has the same keys, with one more leading dimension of tensors and lists of strings. Masks that may
    differ in size are a list.
    """

    image: Tensor  # [3, H, W] in [0, 1]
    label: Tensor  # 0 normal, 1 anomalous
    mask: Tensor  # [1, H, W], 0 normal, 1 anomalous; pixels are evaluated at its size
    has_mask: Tensor  # whether the mask is known; an anomalous image may have no mask
    kind: str  # kind of defect; "good" if the image is normal
    name: str  # path of the file, or another unique name


class ImageDataModule(L.LightningDataModule, ABC):
    """The data: images for training, validation and testing.

    `setup` of a subclass sets `train_set` and `val_set`, or `test_set`.

    Attributes:
        categories: Names of the products, each of which gets its own thresholds; a single one may have none.
        unvalidated: Folders with too few images to validate a trained network, and how many each has. If none
            has more, `val_set` is `train_set`.
    """

    categories: tuple[str, ...] = ("",)
    unvalidated: Mapping[Path, int] = MappingProxyType({})

    train_set: Dataset[Sample]
    val_set: Dataset[Sample]
    test_set: Dataset[Sample]

    def __init__(
        self,
        image_size: int | tuple[int, int],
        batch_size: int,
        seed: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self.image_size = as_pair(image_size)
        require_positive(image_size=min(self.image_size), batch_size=batch_size)
        require_not_negative(seed=seed)
        self.batch_size = batch_size
        self.seed = seed
        self.augment = None if augmentation is None else augmentation.build()

    @abstractmethod
    def setup(self, stage: str) -> None:
        """Sets `test_set` for the stage "test", and `train_set` and `val_set` for any other stage."""

    def manifest(self) -> Manifest | None:
        """Lists the images to train and validate with; None if they are not files that may change."""
        return None

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Augments training images on the device that trains."""
        if self.augment is not None and self.trainer is not None and self.trainer.training:
            batch["image"] = self.augment(batch["image"])
        return batch

    def train_dataloader(self) -> DataLoader[Sample]:
        """Loads each process's part of the training set, in an order that depends on seed and epoch alone."""
        sampler: DistributedSampler[int] = DistributedSampler(
            self.train_set, *self._world_size_and_rank(), shuffle=True, seed=self.seed
        )
        return self._loader(self.train_set, sampler, training=True)

    def unsharded_train_dataloader(self) -> DataLoader[Sample]:
        """Loads the whole training set in every process, for models that are fitted before training."""
        sampler: DistributedSampler[int] = DistributedSampler(self.train_set, 1, 0, seed=self.seed)
        return self._loader(self.train_set, sampler, training=True)

    def normal_dataloader(self) -> DataLoader[Sample]:
        """Loads all normal images, for training and validation, in random order in every process."""
        has_others = self.val_set is not self.train_set
        images = ConcatDataset([self.train_set, self.val_set]) if has_others else self.train_set
        return self._loader(images, DistributedSampler(images, 1, 0, seed=self.seed))

    def val_dataloader(self) -> DataLoader[Sample]:
        """Loads the whole validation set in every process, so that all processes fit the same thresholds."""
        return self._loader(self.val_set, DistributedSampler(self.val_set, 1, 0, shuffle=False))

    def test_dataloader(self) -> DataLoader[Sample]:
        """Loads each process's part of the test set; no image is repeated."""
        sampler = UnrepeatedDistributedSampler(self.test_set, *self._world_size_and_rank(), shuffle=False)
        return self._loader(self.test_set, sampler)

    def _world_size_and_rank(self) -> tuple[int, int]:
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _loader(
        self, dataset: Dataset[Sample], sampler: Sampler[int], training: bool = False
    ) -> DataLoader[Sample]:
        workers = self._num_workers(dataset)
        return DataLoader(
            dataset,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            **self._batch_options(training),
        )

    def _num_workers(self, dataset: Dataset[Sample]) -> int:
        """Returns the number of processes that read a data set; 0 if it is in memory."""
        return 0

    def _batch_options(self, training: bool) -> dict[str, Any]:
        """Returns the options of DataLoader that define how samples are collated to batches."""
        return {"batch_size": self.batch_size}


def categories_of(batch: Sample) -> list[str]:
    """Returns the category of each image of a batch; empty names if the data set names none."""
    unnamed = cast(str, [""] * len(batch["label"]))
    return list(batch.get("category", unnamed))


def rank_sample_count(loader: DataLoader[Sample]) -> int:
    """Returns how many of the first samples of an unshuffled loader no other process loads.

    The processes of a distributed run load equally many samples. If the size of the data set is not a
    multiple of their number, the last samples of some processes are repetitions of others' first ones.
    """
    sampler, count = loader.sampler, len(cast(Sized, loader.dataset))
    if not isinstance(sampler, DistributedSampler):
        return count
    return len(range(sampler.rank, count, sampler.num_replicas))
