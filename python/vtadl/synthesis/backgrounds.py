"""Background images: pictures of other subjects, against which a likelihood is compared."""

import math

import torch
from torch import Tensor

from vtadl.synthesis.photographs import crop_photographs
from vtadl.synthesis.textures import make_textures

_MAX_TILE = 128  # largest side of one texture or one crop of a photograph, in pixels


def make_texture_backgrounds(images: Tensor, count: int, seed: int = 0) -> Tensor:
    """Makes procedural textures [M, C, H, W] with the size and the mean saturation of images [N, C, H, W].

    Large images are mosaics of several textures. `count` is the number of textures, not of images.
    """
    return _make_mosaics(_limit_saturation(make_textures(count, _tile_size(images), seed), images), images)


def make_backgrounds(images: Tensor, count: int, seed: int = 0) -> Tensor:
    """Makes equal numbers of procedural textures and of crops of photographs.

    Shapes are those of :func:`make_texture_backgrounds`.
    """
    half = math.ceil(count / 2)
    kinds = [make(half, _tile_size(images), seed) for make in (make_textures, crop_photographs)]
    tiles = torch.cat([_limit_saturation(kind, images) for kind in kinds])
    order = torch.randperm(len(tiles), generator=torch.Generator().manual_seed(seed))
    return _make_mosaics(tiles[order], images)


def _tile_size(images: Tensor) -> tuple[int, int]:
    """Returns the height and width of the fewest tiles that cover an image with little overhang."""
    return _tile_side(images.shape[-2]), _tile_side(images.shape[-1])


def _tile_side(side: int) -> int:
    return math.ceil(side / math.ceil(side / _MAX_TILE))


def _make_mosaics(tiles: Tensor, images: Tensor) -> Tensor:
    """Joins tiles [T, C, h, w] to images [M, C, H, W]; the first tiles also complete the last image."""
    height, width = images.shape[-2:]
    rows, columns = (
        math.ceil(side / tile_side) for side, tile_side in zip((height, width), tiles.shape[-2:], strict=True)
    )
    count = math.ceil(len(tiles) / (rows * columns))
    tiles = tiles[torch.arange(count * rows * columns) % len(tiles)]
    mosaics = tiles.unflatten(0, (count, rows, columns)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return mosaics[..., :height, :width].contiguous()


def _limit_saturation(tiles: Tensor, images: Tensor) -> Tensor:
    """Gives tiles [T, 3, h, w] the channels of the images, and at most their mean saturation."""
    tiles = tiles[:, : images.shape[1]].to(images)
    grey = tiles.mean(1, keepdim=True)
    ratio = _saturation(images) / _saturation(tiles).clamp(min=1e-12)
    return grey + (tiles - grey) * ratio.clamp(max=1)


def _saturation(images: Tensor) -> Tensor:
    """Returns the root mean square distance of colours from grey."""
    return (images - images.mean(1, keepdim=True)).square().mean().sqrt()
