"""Images larger than the network, seen as overlapping tiles of its size."""

import math

import torch
from torch import Tensor

Size = tuple[int, int]  # height and width


def covering_size(whole: Size, tile: Size) -> Size:
    """The size with the ratio of `whole` of which one side is the tile's and the other no smaller."""
    scale = max(part / side for part, side in zip(tile, whole, strict=True))
    height, width = (max(part, round(scale * side)) for part, side in zip(tile, whole, strict=True))
    return height, width


def corners(whole: Size, tile: Size) -> list[Size]:
    """The upper left corners of the fewest tiles that cover an image, evenly spread, row by row."""
    rows, columns = (_starts(*sides) for sides in zip(whole, tile, strict=True))
    return [(row, column) for row in rows for column in columns]


def _starts(whole: int, tile: int) -> list[int]:
    count = math.ceil(whole / tile)
    return [round(index * (whole - tile) / max(1, count - 1)) for index in range(count)]


def cut(images: Tensor, tile: Size) -> Tensor:
    """Images [B, C, H, W] to their tiles [B * T, C, h, w], those of an image one after another."""
    if images.shape[-2:] == tile:
        return images
    places = corners((images.shape[-2], images.shape[-1]), tile)
    parts = [images[..., top : top + tile[0], left : left + tile[1]] for top, left in places]
    return torch.stack(parts, dim=1).flatten(0, 1)


def join(tiles: Tensor, whole: Size) -> Tensor:
    """Tiles [B * T, C, h, w] to their images [B, C, H, W]; where some overlap, their mean."""
    height, width = tile = (tiles.shape[-2], tiles.shape[-1])
    if whole == tile:
        return tiles
    places = corners(whole, tile)
    parts = tiles.unflatten(0, (-1, len(places))).unbind(1)
    total = tiles.new_zeros(len(tiles) // len(places), tiles.shape[1], *whole)
    count = tiles.new_zeros(whole)
    for part, (top, left) in zip(parts, places, strict=True):
        total[..., top : top + height, left : left + width] += part
        count[top : top + height, left : left + width] += 1
    return total / count
