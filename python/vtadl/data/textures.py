"""The embedded data: photographs of textures, with synthetic defects."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from skimage import data as photographs
from torch.utils.data import Dataset

from vtadl.common.ranges import require_at_most, require_positive
from vtadl.data.defects import DEFECTS, GreyImage, Mask
from vtadl.data.module import ImageDataModule, Sample
from vtadl.images.pixels import resize_pixels
from vtadl.images.tiles import Size

Texture = Literal["brick", "grass", "gravel"]
TEXTURES: tuple[Texture, ...] = ("brick", "grass", "gravel")


class Strip(NamedTuple):
    """A range of columns of a photograph; the strips of the three splits do not overlap."""

    start: int
    stop: int


_HEIGHT = 512  # pixels of a photograph
STRIPS = {"train": Strip(0, 256), "val": Strip(256, 384), "test": Strip(384, 512)}


class TextureCrops(Dataset[Sample]):
    """Random crops of one strip of a photograph, all drawn when the data set is made.

    With `defects`, every second crop has a defect: a patch of another photograph, a scratch or a blot. Crops
    for images that would be larger than the narrowest strip are smaller, and are enlarged.
    """

    def __init__(
        self,
        texture: Texture,
        split: str,
        size: Size,
        count: int,
        seed: int,
        defects: bool = False,
    ) -> None:
        strip = STRIPS[split]
        crop = crop_size(size)
        rng = np.random.default_rng([seed, TEXTURES.index(texture), list(STRIPS).index(split)])
        photograph = load_texture(texture)[:, strip.start : strip.stop]
        donors = [load_texture(other) for other in TEXTURES if other != texture]
        self.samples: list[Sample] = []
        for index in range(count):
            image, mask, kind = random_crop(photograph, crop, rng), np.zeros(crop, dtype=bool), "good"
            if defects and index % 2:
                kind = list(DEFECTS)[index // 2 % len(DEFECTS)]
                donor = random_crop(donors[rng.integers(len(donors))], crop, rng)
                image, mask = DEFECTS[kind](image, donor, rng)
            name = f"{texture}/{split}/{kind}/{index:03d}"
            self.samples.append(_sample(*_enlarge(image, mask, size), kind, name))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class TextureDefects(ImageDataModule):
    """Crops of one of scikit-image's photographs of brick, grass or gravel, which need no download.

    Training, validation and test crops come from three parts of the photograph that do not overlap.
    """

    def __init__(
        self,
        texture: Texture = "brick",
        image_size: int | tuple[int, int] = 256,
        batch_size: int = 16,
        train_count: int = 512,
        val_count: int = 128,
        test_count: int = 120,
        seed: int = 0,
    ) -> None:
        """Stores the settings; no crop is drawn.

        Args:
            texture: The photograph: brick, grass or gravel.
            image_size: Height and width of an image in pixels, or one number for both. A crop is as large as
                the image, up to a width of 128 pixels and a height of 512, and is enlarged beyond that.
            batch_size: Number of images in a batch.
            train_count: Number of normal crops for training.
            val_count: Number of normal crops for validation.
            test_count: Number of test crops; every second one has a defect.
            seed: Seed of the crops, the defects and the order of training images.

        Raises:
            InputError: If a number is out of its range.
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


def crop_size(size: Size) -> Size:
    """Height and width of the crop for an image of a size: the largest of its shape that all strips have."""
    scale = max(1.0, size[0] / _HEIGHT, size[1] / min(strip.stop - strip.start for strip in STRIPS.values()))
    return max(1, round(size[0] / scale)), max(1, round(size[1] / scale))


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
