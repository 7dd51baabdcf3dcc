"""The embedded data: photographs of textures, with synthetic defects."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from skimage import data as photographs
from torch.utils.data import Dataset

from vtadl.common.ranges import require_positive
from vtadl.data.defects import DEFECTS, GreyImage, Mask
from vtadl.data.module import ImageDataModule, Sample
from vtadl.errors import InputError
from vtadl.images.pixels import resize_pixels
from vtadl.images.tiles import Size

Texture = Literal["brick", "grass", "gravel"]
TEXTURES: tuple[Texture, ...] = ("brick", "grass", "gravel")


SPLITS = ("train", "val", "test")
_SIDE = 512  # pixels of a photograph


class Cell(NamedTuple):
    """A part of a photograph."""

    top: int
    left: int
    size: Size

    def of(self, photograph: GreyImage) -> GreyImage:
        """Copies the part."""
        return photograph[self.top : self.top + self.size[0], self.left : self.left + self.size[1]].copy()


class TextureCrops(Dataset[Sample]):
    """Cells of a photograph as images, which are enlarged to `size`; all are drawn when the data set is made.

    With `defects`, every cell gives two images, of which the second has a defect: a patch of another
    photograph, a scratch or a blot.
    """

    def __init__(
        self,
        texture: Texture,
        split: str,
        size: Size,
        cells: Sequence[Cell],
        seed: int,
        count: int | None = None,
    ) -> None:
        """Draws the images.

        Args:
            texture: The photograph.
            split: Name of the split, for the names of the images.
            size: Height and width of an image.
            cells: The cells of the split.
            seed: Seed of the defects.
            count: Number of images, every second of which has a defect; if None, one of each cell, without.
        """
        rng = np.random.default_rng([seed, TEXTURES.index(texture), SPLITS.index(split)])
        photograph = load_texture(texture)
        donors = [load_texture(other) for other in TEXTURES if other != texture]
        self.samples: list[Sample] = []
        for index in range(len(cells) if count is None else count):
            cell = cells[index if count is None else index // 2]
            image, mask, kind = cell.of(photograph), np.zeros(cell.size, dtype=bool), "good"
            if count is not None and index % 2:
                kind = list(DEFECTS)[index // 2 % len(DEFECTS)]
                donor = random_crop(donors[rng.integers(len(donors))], cell.size, rng)
                image, mask = DEFECTS[kind](image, donor, rng)
            name = f"{texture}/{split}/{kind}/{index:03d}"
            self.samples.append(_sample(*_enlarge(image, mask, size), kind, name))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class TextureDefects(ImageDataModule):
    """Cells of one of scikit-image's photographs of brick, grass or gravel, which need no download.

    The photograph is cut into a grid of cells, and chance decides which cells are for training, validation
    and testing. No two cells overlap, so that a test image is as new, and as like the others, as one normal
    image is to another: what is stated about the thresholds holds.
    """

    def __init__(
        self,
        texture: Texture = "brick",
        image_size: int | tuple[int, int] = 256,
        batch_size: int = 16,
        train_count: int = 36,
        val_count: int = 4,
        test_count: int = 48,
        seed: int = 0,
    ) -> None:
        """Stores the settings; no image is drawn.

        Args:
            texture: The photograph: brick, grass or gravel.
            image_size: Height and width of an image in pixels, or one number for both. A cell is as large as
                the number of cells allows, but no larger than the image, and is enlarged to it: 64 cells of
                64x64 pixels with the default numbers.
            batch_size: Number of images in a batch.
            train_count: Number of normal images for training.
            val_count: Number of normal images for validation. A detector that trains no network is fitted to
                them as well.
            test_count: Number of test images. Every second one has a defect, and shows the same cell as the
                one before it.
            seed: Seed of the cells, the defects and the order of training images.

        Raises:
            InputError: If a number is out of its range, or the photograph has no room for so many cells.
        """
        super().__init__(image_size, batch_size, seed)
        require_positive(train_count=train_count, val_count=val_count, test_count=test_count)
        self.texture: Texture = texture
        self.counts = {"train": train_count, "val": val_count, "test": test_count}
        self.crop = crop_size(self.image_size, train_count + val_count + -(-test_count // 2))

    def setup(self, stage: str) -> None:
        """Draws the images that the stage needs."""
        if stage == "test":
            self.test_set = self._crops("test", self.counts["test"])
        else:
            self.train_set, self.val_set = self._crops("train"), self._crops("val")

    def cells(self, split: str) -> list[Cell]:
        """The cells of a split."""
        rng = np.random.default_rng([self.seed, TEXTURES.index(self.texture)])
        cells = random_cells(self.crop, rng)
        train, val = self.counts["train"], self.counts["train"] + self.counts["val"]
        end = val + -(-self.counts["test"] // 2)
        return cells[{"train": slice(train), "val": slice(train, val), "test": slice(val, end)}[split]]

    def _crops(self, split: str, count: int | None = None) -> TextureCrops:
        return TextureCrops(self.texture, split, self.image_size, self.cells(split), self.seed, count)


def crop_size(size: Size, count: int) -> Size:
    """The largest height and width, of the shape of an image, of which a photograph has so many cells.

    Raises:
        InputError: If there is none.
    """
    for height in range(min(size[0], _SIDE), 0, -1):
        width = max(1, round(height * size[1] / size[0]))
        if width <= _SIDE and (_SIDE // height) * (_SIDE // width) >= count:
            return height, width
    raise InputError(f"a photograph of {_SIDE}x{_SIDE} pixels has no room for {count} crops")


def random_cells(size: Size, rng: np.random.Generator) -> list[Cell]:
    """All cells of a grid on a photograph, in random order; chance moves the grid where there is room."""
    height, width = size
    rows, columns = _SIDE // height, _SIDE // width
    top, left = rng.integers(_SIDE - rows * height + 1), rng.integers(_SIDE - columns * width + 1)
    places = [(row, column) for row in range(rows) for column in range(columns)]
    return [
        Cell(int(top + places[index][0] * height), int(left + places[index][1] * width), size)
        for index in rng.permutation(len(places))
    ]


def load_texture(texture: Texture) -> GreyImage:
    """Loads a grey photograph of 512x512 pixels in [0, 1] that scikit-image includes."""
    return getattr(photographs, texture)().astype(np.float32) / 255


def random_crop(photograph: GreyImage, size: tuple[int, int], rng: np.random.Generator) -> GreyImage:
    """Copies a random part of a photograph; `size` is its height and width."""
    top, left = (rng.integers(whole - part + 1) for whole, part in zip(photograph.shape, size, strict=True))
    return photograph[top : top + size[0], left : left + size[1]].copy()


def _enlarge(image: GreyImage, mask: Mask, size: Size) -> tuple[GreyImage, Mask]:
    pixels = resize_pixels(image[..., None], size, "stretch")[..., 0]
    rows, columns = (np.arange(large) * small // large for large, small in zip(size, mask.shape, strict=True))
    return pixels, mask[np.ix_(rows, columns)]


def _sample(image: GreyImage, mask: Mask, kind: str, name: str) -> Sample:
    return Sample(
        image=torch.from_numpy(image).expand(3, -1, -1),
        label=torch.tensor(int(mask.any())),
        mask=torch.from_numpy(mask[None].astype(np.float32)),
        has_mask=torch.tensor(True),
        kind=kind,
        name=name,
    )
