"""The training images that a dictionary is fitted to."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vtadl.data import Sample, categories_of
from vtadl.images.tiles import Size, cut

_MAX_WINDOWS = 400_000


class TrainingImages(NamedTuple):
    """Images as tiles of the size of the network; an image of that size is a single tile."""

    tiles: Tensor  # [N, 3, H, W]; those of an image are consecutive
    counts: list[int]  # numbers of tiles of each image
    sizes: list[Size]  # of each image
    categories: list[str]  # that the images show

    def split(self, values: Tensor) -> Iterator[Tensor]:
        """The values [N, ...] of tiles, image by image."""
        return iter(values.split(self.counts))


def collect_images(loader: Iterable[Sample], grid: tuple[int, int], tile: Size) -> TrainingImages:
    """Collects as many training images as the dictionary is fitted to, and cuts them into tiles."""
    wanted = max(1, _MAX_WINDOWS // (grid[0] * grid[1]))
    tiles: list[Tensor] = []
    images = TrainingImages(torch.empty(0), [], [], [])
    for batch in loader:
        tiles.append(cut(batch["image"], tile))
        count, (height, width) = len(batch["image"]), batch["image"].shape[-2:]
        images.counts.extend([len(tiles[-1]) // count] * count)
        images.sizes.extend([(height, width)] * count)
        images.categories.extend(categories_of(batch))
        wanted -= len(tiles[-1])
        if wanted <= 0:
            break
    return images._replace(tiles=torch.cat(tiles))
