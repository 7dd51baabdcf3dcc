"""The data module of MNIST, with one digit as the normal class."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vtadl.common.files import absolute_path
from vtadl.common.ranges import require_fraction
from vtadl.data.content import digest
from vtadl.data.manifest import Manifest, ManifestEntry
from vtadl.data.module import ImageDataModule, Sample
from vtadl.errors import InputError


class MNISTDigitImages(Dataset[Sample]):
    """Images [N, H, W] and their digits [N]; images of one digit are normal, all others are anomalous."""

    def __init__(self, images: Tensor, digits: Tensor, normal: int, name: str) -> None:
        self.images, self.digits, self.normal, self.name = images, digits, normal, name

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        image, digit = self.images[index], int(self.digits[index])
        is_normal = digit == self.normal
        return Sample(
            image=image.expand(3, -1, -1),
            label=torch.tensor(int(not is_normal)),
            mask=torch.zeros(1, *image.shape),
            has_mask=torch.tensor(is_normal),
            kind="good" if is_normal else str(digit),
            name=f"{self.name}/{index:05d}",
        )


LAYOUT = (
    "expected train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte, compressed by gzip (.gz) or not. MNIST: "
    "https://ossci-datasets.s3.amazonaws.com/mnist/, CC BY-SA 3.0"
)


class MNISTDigit(ImageDataModule):
    """Trains with the images of one digit, and tests with all test images; other digits are anomalous."""

    def __init__(
        self,
        root: str,
        digit: int = 0,
        image_size: int | tuple[int, int] = 28,
        batch_size: int = 64,
        val_fraction: float = 0.05,
        seed: int = 0,
    ) -> None:
        """Stores the settings; no file is read.

        Args:
            root: Folder of the four idx files, compressed by gzip or not.
            digit: The normal digit, from 0 to 9.
            image_size: Height and width in pixels, which must be 28.
            batch_size: Number of images in a batch.
            val_fraction: Fraction of the normal training images that is held out for validation.
            seed: Seed of the split and of the order of training images.

        Raises:
            InputError: If the digit, the size or the fraction is out of its range.
        """
        super().__init__(image_size, batch_size, seed)
        if digit not in range(10):
            raise InputError(f"digit must be in 0 to 9, got {digit}")
        require_fraction(val_fraction=val_fraction)
        if self.image_size != (28, 28):
            raise InputError(f"MNIST has images of 28x28 pixels, but image_size is {image_size}")
        self.root = Path(os.path.expanduser(root))
        self.digit, self.val_fraction = digit, val_fraction

    def setup(self, stage: str) -> None:
        """Reads the files.

        Raises:
            InputError: If a file is missing or damaged.
        """
        if stage == "test":
            images, digits = _read_split(self.root, "t10k")
            self.test_set = MNISTDigitImages(images, digits, self.digit, "test")
            return
        normal, order, val_count = self._split()
        for name, part in (("val", order[:val_count]), ("train", order[val_count:])):
            digits = torch.full((len(part),), self.digit)
            data = MNISTDigitImages(normal[part], digits, self.digit, name)
            setattr(self, f"{name}_set", data)

    def manifest(self) -> Manifest:
        """Lists the normal images; the path of an image is its index among the normal images."""
        normal, order, val_count = self._split()
        entries = [
            ManifestEntry(
                str(index),
                digest(normal[index].numpy().tobytes()),
                "validation" if rank < val_count else "training",
            )
            for rank, index in enumerate(order.tolist())
        ]
        return Manifest(absolute_path(self.root), entries)

    def _split(self) -> tuple[Tensor, Tensor, int]:
        """Returns the normal images, a random order, and how many of the first ones are for validation."""
        images, digits = _read_split(self.root, "train")
        normal = images[digits == self.digit]
        order = torch.randperm(len(normal), generator=torch.Generator().manual_seed(self.seed))
        return normal, order, max(2, round(self.val_fraction * len(normal)))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Reads the array in an idx file of bytes, compressed by gzip or not.

    Raises:
        InputError: If the file is missing, truncated or of another format.
    """
    packed = path.with_name(path.name + ".gz")
    if not path.is_file() and not packed.is_file():
        raise InputError(f"there is no file {path}; {LAYOUT}")
    try:
        content = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
        zero, kind, dims = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{dims}I", content, 4)
        if (zero, kind) != (0, 8):
            raise InputError(f"{path} is not an idx file of bytes")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(shape).copy()
    except (OSError, EOFError, struct.error, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _read_split(root: Path, split: str) -> tuple[Tensor, Tensor]:
    """Reads images [N, 28, 28] in [0, 1] and their digits [N]."""
    images, digits = (
        read_idx(root / f"{split}-images-idx3-ubyte"),
        read_idx(root / f"{split}-labels-idx1-ubyte"),
    )
    if images.ndim != 3 or len(images) != len(digits):
        raise InputError(f"the numbers of {split} images and of their labels in {root} differ")
    return torch.from_numpy(images).float() / 255, torch.from_numpy(digits).long()
