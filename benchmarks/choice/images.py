"""The images of a data set, as tensors."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from vtadl.data import ImageDataModule


class LabelledImages(NamedTuple):
    """Images and labels, as in a batch of :class:`vtadl.data.Sample`."""

    image: Tensor  # [M, 3, H, W] in [0, 1]
    label: Tensor  # [M]
    mask: Tensor  # [M, 1, H, W]
    has_mask: Tensor  # [M]
    kind: list[str]


class DataSet(NamedTuple):
    """Normal images for training, and labelled images for the test."""

    train: Tensor  # [N, 3, H, W] in [0, 1]
    test: LabelledImages


def read(data: ImageDataModule, train_count: int | None = None, test_count: int | None = None) -> DataSet:
    """Reads all images of a data module, or the first ones of each part."""
    data.setup("fit")
    batches = []
    for batch in data.unsharded_train_dataloader():
        batches.append(batch["image"])
        if train_count is not None and sum(map(len, batches)) >= train_count:
            break
    data.setup("test")
    size = len(data.test_set)  # type: ignore[arg-type]  # a data set of this project has a length
    samples = default_collate(
        [data.test_set[index] for index in range(size if test_count is None else test_count)]
    )
    return DataSet(
        torch.cat(batches)[:train_count], LabelledImages(*(samples[name] for name in LabelledImages._fields))
    )


def dimmed(data: DataSet, seed: int) -> DataSet:
    """The data set, with test images whose gain and offset change as the light of a hall does."""
    rng = np.random.default_rng([seed, 1])
    images = data.test.image
    gain, offset = (
        torch.from_numpy(rng.uniform(*limits, (len(images), 1, 1, 1))).float()
        for limits in ((0.8, 1.2), (-0.05, 0.05))
    )
    return data._replace(test=data.test._replace(image=(gain * images + offset).clamp(0, 1)))
