"""What every data module shares: the form of a sample, and the loaders."""

from abc import ABC, abstractmethod
from collections.abc import Sized
from typing import Any, TypedDict, cast

import lightning as L
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from vtadl.common.ranges import require_not_negative, require_positive
from vtadl.data.augmentation import Augmentation
from vtadl.data.manifest import Manifest
from vtadl.images.tiles import as_pair


class Sample(TypedDict):
    """One image; a batch has the same keys with one more leading dimension, and a list of names."""

    image: Tensor  # [3, H, W] in [0, 1]
    label: Tensor  # 0 normal, 1 anomalous
    mask: Tensor  # [1, H, W] of 0 and 1
    has_mask: Tensor  # whether the mask is known; an anomalous image may lack one
    kind: str  # of defect; "good" if there is none
    name: str


class ImageDataModule(L.LightningDataModule, ABC):
    """Images to train, validate and test with: three data sets, which `setup` of a subclass makes."""

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
        """Makes `test_set` for the stage "test", the other two for any other stage."""

    def manifest(self) -> Manifest | None:
        """The images that are trained and validated with, where they are files that may change."""
        return None

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Changes training images, on the device that trains."""
        if self.augment is not None and self.trainer is not None and self.trainer.training:
            batch["image"] = self.augment(batch["image"])
        return batch

    def train_dataloader(self) -> DataLoader[Sample]:
        """Each epoch in an order of its own, by the seed and the epoch alone; each process gets its share."""
        order: DistributedSampler[int] = DistributedSampler(
            self.train_set, *self._processes(), shuffle=True, seed=self.seed
        )
        return self._loader(self.train_set, order, training=True)

    def unsharded_train_dataloader(self) -> DataLoader[Sample]:
        """All of it for every process, for what is fitted before training."""
        order: DistributedSampler[int] = DistributedSampler(self.train_set, 1, 0, seed=self.seed)
        return self._loader(self.train_set, order, training=True)

    def val_dataloader(self) -> DataLoader[Sample]:
        """All of it for every process: what is fitted to it is then the same in all."""
        return self._loader(self.val_set, DistributedSampler(self.val_set, 1, 0, shuffle=False))

    def test_dataloader(self) -> DataLoader[Sample]:
        """Each process gets its share, and no image is there twice."""
        shares = UnrepeatedDistributedSampler(self.test_set, *self._processes(), shuffle=False)
        return self._loader(self.test_set, shares)

    def _processes(self) -> tuple[int, int]:
        """How many there are, and which one this is."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _loader(
        self, dataset: Dataset[Sample], sampler: Sampler[int], training: bool = False
    ) -> DataLoader[Sample]:
        workers = self._workers(dataset)
        return DataLoader(
            dataset,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            **self._batches(training),
        )

    def _workers(self, dataset: Dataset[Sample]) -> int:
        """Processes that read the data set; none where it is in memory."""
        return 0

    def _batches(self, training: bool) -> dict[str, Any]:
        """How samples become batches: options of DataLoader."""
        return {"batch_size": self.batch_size}


def rank_sample_count(loader: DataLoader[Sample]) -> int:
    """How many of a loader's samples are this process's own, in one pass without shuffling.

    The processes of a distributed run load equally many: where the data set does not divide, some end with
    samples that others began with.
    """
    sampler, count = loader.sampler, len(cast(Sized, loader.dataset))
    if not isinstance(sampler, DistributedSampler):
        return count
    return len(range(sampler.rank, count, sampler.num_replicas))
