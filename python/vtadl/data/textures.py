"""The embedded data: photographs of textures, with synthetic defects."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import data as photographs
from skimage import draw
from skimage.morphology import dilation, disk
from torch.utils.data import Dataset

from vtadl.common.ranges import require_at_most, require_positive
from vtadl.data.module import ImageDataModule, Sample
from vtadl.errors import InputError

Texture = Literal["brick", "grass", "gravel"]
TEXTURES: tuple[Texture, ...] = ("brick", "grass", "gravel")
Picture = NDArray[np.float32]  # [H, W] in [0, 1]
Mask = NDArray[np.bool_]  # [H, W]


class Strip(NamedTuple):
    """Columns of a photograph; the strips of the three splits do not overlap."""

    start: int
    stop: int


STRIPS = {"train": Strip(0, 256), "val": Strip(256, 384), "test": Strip(384, 512)}


class TextureCrops(Dataset[Sample]):
    """Square or oblong crops of one strip of a photograph, all drawn at once from a seed.

    With `defects`, every second crop carries one: a piece of another photograph, a scratch or a blot.
    """

    def __init__(
        self,
        texture: Texture,
        split: str,
        size: tuple[int, int],
        count: int,
        seed: int,
        defects: bool = False,
    ) -> None:
        strip = STRIPS[split]
        if size[0] > 512 or size[1] > strip.stop - strip.start:
            raise InputError(
                f"image_size {size[0]}x{size[1]} does not fit into a texture's {split} part of "
                f"512x{strip.stop - strip.start} pixels"
            )
        rng = np.random.default_rng([seed, TEXTURES.index(texture), list(STRIPS).index(split)])
        photograph = load_texture(texture)[:, strip.start : strip.stop]
        donors = [load_texture(other) for other in TEXTURES if other != texture]
        self.samples: list[Sample] = []
        for index in range(count):
            image, mask, kind = random_crop(photograph, size, rng), np.zeros(size, dtype=bool), "good"
            if defects and index % 2:
                kind = list(DEFECTS)[index // 2 % len(DEFECTS)]
                donor = random_crop(donors[rng.integers(len(donors))], size, rng)
                image, mask = DEFECTS[kind](image, donor, rng)
            self.samples.append(_sample(image, mask, kind, f"{texture}/{split}/{kind}/{index:03d}"))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class TextureDefects(ImageDataModule):
    """Crops of one of scikit-image's photographs of brick, grass or gravel; needs no download.

    Training, validation and test crops come from three parts of the photograph that do not overlap.
    """

    def __init__(
        self,
        texture: Texture = "brick",
        image_size: int | tuple[int, int] = 128,
        batch_size: int = 16,
        train_count: int = 512,
        val_count: int = 128,
        test_count: int = 120,
        seed: int = 0,
    ) -> None:
        """Remembers what to draw.

        Args:
            texture: Which photograph.
            image_size: Height and width of a crop in pixels, or one number for both.
            batch_size: Images in a batch.
            train_count: Normal crops for training.
            val_count: Normal crops for validation.
            test_count: Test crops; every second one has a defect.
            seed: Seed of the crops, the defects and the training order.
        """
        super().__init__(image_size, batch_size, seed)
        require_positive(train_count=train_count, val_count=val_count, test_count=test_count)
        require_at_most(1_000_000, train_count=train_count, val_count=val_count, test_count=test_count)
        self.texture: Texture = texture
        self.counts = {"train": train_count, "val": val_count, "test": test_count}

    def setup(self, stage: str) -> None:
        """Draws the crops that the stage needs."""
        if stage == "test":
            self.test_set = self._crops("test", defects=True)
        else:
            self.train_set, self.val_set = self._crops("train"), self._crops("val")

    def _crops(self, split: str, defects: bool = False) -> TextureCrops:
        return TextureCrops(self.texture, split, self.image_size, self.counts[split], self.seed, defects)


def load_texture(texture: Texture) -> Picture:
    """A grey photograph of 512x512 pixels in [0, 1], from the files of scikit-image itself."""
    return getattr(photographs, texture)().astype(np.float32) / 255


def random_crop(photograph: Picture, size: tuple[int, int], rng: np.random.Generator) -> Picture:
    """A copy of a random part of a photograph."""
    top, left = (rng.integers(whole - part + 1) for whole, part in zip(photograph.shape, size, strict=True))
    return photograph[top : top + size[0], left : left + size[1]].copy()


def add_patch(image: Picture, donor: Picture, rng: np.random.Generator) -> tuple[Picture, Mask]:
    """Replaces an ellipse by the same part of another photograph."""
    return _paint(image, _random_ellipse(image.shape, rng, 0.12, 0.22), donor)


def add_scratch(image: Picture, donor: Picture, rng: np.random.Generator) -> tuple[Picture, Mask]:
    """Draws a bright or dark curve across the image."""
    height, width = image.shape
    rows, columns = rng.integers(0, height, 2), rng.integers(0, width, 2)
    end = ((rows[0] + height // 2) % height, (columns[0] + width // 2) % width)  # far from the start
    line = np.zeros(image.shape, dtype=np.uint8)
    curve = draw.bezier_curve(rows[0], columns[0], rows[1], columns[1], *end, weight=1, shape=image.shape)
    line[curve] = 1
    mask = dilation(line, disk(max(1, min(height, width) // 64))).astype(bool)
    return _paint(image, mask, np.float32(rng.choice([0.02, 0.98])))


def add_blot(image: Picture, donor: Picture, rng: np.random.Generator) -> tuple[Picture, Mask]:
    """Darkens or brightens the union of a few ellipses, and takes most of their texture away."""
    first = _random_ellipse(image.shape, rng, 0.06, 0.16)
    rows, columns = np.nonzero(first)
    mask = first.copy()
    for _ in range(2):
        pick = rng.integers(len(rows))
        mask |= _random_ellipse(image.shape, rng, 0.04, 0.1, (rows[pick], columns[pick]))
    colour = np.float32(rng.choice([0.1, 0.9]))
    return _paint(image, mask, 0.7 * colour + 0.3 * image)


Defect = Callable[[Picture, Picture, np.random.Generator], tuple[Picture, Mask]]
DEFECTS: dict[str, Defect] = {"patch": add_patch, "scratch": add_scratch, "blot": add_blot}


def _paint(image: Picture, mask: Mask, colour: Picture | np.float32) -> tuple[Picture, Mask]:
    return np.where(mask, colour, image).astype(np.float32), mask


def _random_ellipse(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    smallest: float,
    largest: float,
    centre: tuple[int, int] | None = None,
) -> Mask:
    """An ellipse whose radii are between two fractions of the image's shorter side."""
    row, column = centre or (rng.integers(shape[0]), rng.integers(shape[1]))
    radii = np.maximum(rng.uniform(smallest, largest, 2) * min(shape), 1.5)
    mask = np.zeros(shape, dtype=bool)
    mask[draw.ellipse(row, column, radii[0], radii[1], shape=shape, rotation=rng.uniform(-np.pi, np.pi))] = (
        True
    )
    return mask


def _sample(image: Picture, mask: Mask, kind: str, name: str) -> Sample:
    return Sample(
        image=torch.from_numpy(image).expand(3, -1, -1),
        label=torch.tensor(int(mask.any())),
        mask=torch.from_numpy(mask[None].astype(np.float32)),
        has_mask=torch.tensor(True),
        kind=kind,
        name=name,
    )
