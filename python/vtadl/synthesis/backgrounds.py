"""Images of any kind that could have been taken in the place of the normal ones."""

import math

import torch
from torch import Tensor

from vtadl.synthesis.photographs import make_pieces
from vtadl.synthesis.textures import make_textures

_TILE = 128  # largest side of one texture or piece of a photograph, in pixels


def textures_like(images: Tensor, count: int, seed: int = 0) -> Tensor:
    """Textures of formulas [M, C, H, W] as large as images [N, C, H, W], and no more colourful.

    Large images are mosaics, so that `count` textures fill them.
    """
    return _mosaics(_no_more_colourful(make_textures(count, _tile(images), seed), images), images)


def pictures_like(images: Tensor, count: int, seed: int = 0) -> Tensor:
    """Textures of formulas and as many pieces of photographs, as of :func:`textures_like`."""
    half = math.ceil(count / 2)
    kinds = [make(half, _tile(images), seed) for make in (make_textures, make_pieces)]
    tiles = torch.cat([_no_more_colourful(kind, images) for kind in kinds])
    order = torch.randperm(len(tiles), generator=torch.Generator().manual_seed(seed))
    return _mosaics(tiles[order], images)


def _tile(images: Tensor) -> tuple[int, int]:
    """The size of the fewest tiles that cover an image with little to spare."""
    return _part(images.shape[-2]), _part(images.shape[-1])


def _part(side: int) -> int:
    return math.ceil(side / math.ceil(side / _TILE))


def _mosaics(tiles: Tensor, images: Tensor) -> Tensor:
    """Tiles [T, C, h, w] side by side in images [M, C, H, W], the last one filled up with the first tiles."""
    height, width = images.shape[-2:]
    rows, columns = (
        math.ceil(whole / part) for whole, part in zip((height, width), tiles.shape[-2:], strict=True)
    )
    count = math.ceil(len(tiles) / (rows * columns))
    tiles = tiles[torch.arange(count * rows * columns) % len(tiles)]
    mosaics = tiles.unflatten(0, (count, rows, columns)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return mosaics[..., :height, :width].contiguous()


def _no_more_colourful(pictures: Tensor, images: Tensor) -> Tensor:
    """Pictures [T, 3, h, w] with the channels, and on average at most the saturation, of images."""
    pictures = pictures[:, : images.shape[1]].to(images)
    grey = pictures.mean(1, keepdim=True)
    share = _saturation(images) / _saturation(pictures).clamp(min=1e-12)
    return grey + (pictures - grey) * share.clamp(max=1)


def _saturation(images: Tensor) -> Tensor:
    """Root mean square distance of colours from grey."""
    return (images - images.mean(1, keepdim=True)).square().mean().sqrt()
