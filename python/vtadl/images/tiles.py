"""Images larger than the network, as overlapping tiles of its size.

Sizes may be symbolic, as in a program that is exported for images of any size.
"""

import torch
from torch import Tensor

Size = tuple[int, int]  # height and width


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width; one number stands for both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def covering_size(whole: Size, tile: Size) -> Size:
    """The smallest size that has the aspect ratio of `whole` and covers a tile."""
    height, width = whole
    return (
        torch.sym_max(tile[0], (2 * height * tile[1] + width) // (2 * width)),
        torch.sym_max(tile[1], (2 * width * tile[0] + height) // (2 * height)),
    )


def corners(whole: Size, tile: Size) -> list[Size]:
    """The upper left corners of the fewest tiles that cover an image, evenly spaced, row by row."""
    rows, columns = (_starts(*sides).tolist() for sides in zip(whole, tile, strict=True))
    return [(row, column) for row in rows for column in columns]


def cut(images: Tensor, tile: Size) -> Tensor:
    """Cuts images [B, C, H, W] into tiles [B * T, C, h, w]; the tiles of an image are consecutive."""
    rows, columns = _tile_indices((images.shape[-2], images.shape[-1]), tile, images.device)
    parts = images.index_select(-2, rows).index_select(-1, columns)
    return (
        parts.unflatten(-1, (-1, tile[1]))
        .unflatten(-3, (-1, tile[0]))
        .permute(0, 2, 4, 1, 3, 5)
        .flatten(0, 2)
    )


def join(tiles: Tensor, whole: Size) -> Tensor:
    """Joins tiles [B * T, C, h, w] to images [B, C, H, W]; overlapping tiles are averaged."""
    tile = (tiles.shape[-2], tiles.shape[-1])
    rows, columns = _tile_indices(whole, tile, tiles.device)
    grid = (-1, rows.shape[0] // tile[0], columns.shape[0] // tile[1])
    parts = tiles.unflatten(0, grid).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return _averaging(rows, whole[0]).to(parts) @ parts @ _averaging(columns, whole[1]).T.to(parts)


def _tile_indices(whole: Size, tile: Size, device: torch.device) -> list[Tensor]:
    """The row indices, and the column indices, of all tiles of an image, side by side."""
    return [
        (_starts(side, part, device)[:, None] + torch.arange(part, device=device)).flatten()
        for side, part in zip(whole, tile, strict=True)
    ]


def _starts(whole: int, tile: int, device: torch.device | None = None) -> Tensor:
    count = (whole + tile - 1) // tile
    gaps = torch.sym_max(1, count - 1)
    return (2 * torch.arange(count, device=device) * (whole - tile) + gaps) // (2 * gaps)


def _averaging(indices: Tensor, size: int) -> Tensor:
    """The matrix [size, N] that averages the values of equal index."""
    equal = (indices == torch.arange(size, device=indices.device)[:, None]).float()
    return equal / equal.sum(1, keepdim=True)
