"""Conversion of masks of any format and mode to binary masks."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.morphology import dilation, erosion

from vtadl.errors import InputError

MAX_CLASS_LEVELS = 16  # with more levels or colours, a level is not taken as the number of a class
_LOSSY_FORMATS = ("AVIF", "JPEG", "MPO")
_MIN_NOISE_LEVELS = 6  # with fewer intermediate levels, they are not taken as noise
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.uint8)


class BinaryMask(NamedTuple):
    """The anomalous pixels of a mask, and how certain their interpretation is."""

    pixels: NDArray[np.bool_]  # [H, W]
    note: str = ""  # how the mask was interpreted, if there is another way
    problem: str = ""  # why the interpretation may be wrong


def binarize(image: Image.Image, lossy: bool) -> BinaryMask:
    """Marks every pixel that is not background; the background is 0, black or transparent.

    Lossy compression leaves low levels around each edge, so that in a lossily compressed file a pixel is
    marked if it reaches half of the largest level. The same rule holds if resizing has made the edges soft.
    In other masks every level above 0 is marked, whether it is 1, 255 or the number of a class.

    Raises:
        ValueError: If a level is NaN or infinite.
    """
    levels = mask_levels(image)
    if not np.isfinite(levels).all():
        raise ValueError("its pixels are not all finite numbers")
    if lossy:
        return _threshold_at_half(levels, problem=_problem_of_compression(levels))
    between = (levels > 0) & (levels < levels.max())
    count = len(np.unique(levels))
    if _has_block_noise(levels, between):
        half = "values of at least half of the largest value are marked"
        return _threshold_at_half(levels, f"has the noise of a JPEG file ({count} levels): {half}")
    if not between.any() or not _are_soft_edges(levels, between):
        return BinaryMask(levels > 0)
    if 4 * np.count_nonzero(levels >= 0.9 * levels.max()) >= np.count_nonzero(between):
        half = "values of at least half of the largest value are marked"
        return _threshold_at_half(levels, f"has soft edges ({count} levels): {half}")
    if count <= MAX_CLASS_LEVELS:
        return BinaryMask(levels > 0)
    problem = f"has {count} levels and no clear edges: every value above 0 is marked"
    return BinaryMask(levels > 0, problem=problem)


def union(masks: dict[Path, BinaryMask]) -> BinaryMask:
    """Combines several masks of one image.

    Raises:
        InputError: If they differ in size.
    """
    first = next(iter(masks))
    for path, mask in masks.items():
        if mask.pixels.shape != masks[first].pixels.shape:
            raise InputError(f"masks {first} and {path} of one image differ in size")
    return BinaryMask(
        np.any([mask.pixels for mask in masks.values()], axis=0),
        "; ".join(f"{path.name} {mask.note}" for path, mask in masks.items() if mask.note),
        "; ".join(f"{path.name} {mask.problem}" for path, mask in masks.items() if mask.problem),
    )


def looks_inverted(mask: NDArray[np.bool_]) -> bool:
    """Returns whether a mask [H, W] marks most of its image and nearly all of the border."""
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return bool(mask.mean() > 0.5 and border.mean() > 0.9)


def mask_levels(image: Image.Image) -> NDArray[Any]:
    """Converts a mask to one number per pixel [H, W], which is 0 for the background.

    The number of a coloured pixel is the largest of red, green and blue. Transparent pixels are background.
    """
    if image.has_transparency_data:
        return _transparent_levels(np.asarray(image.convert("RGBA")))
    if image.mode == "P":
        return _palette_levels(np.asarray(image), np.asarray(image.convert("RGB")).max(2))
    if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
        return np.abs(np.asarray(image).astype(np.float64 if image.mode in "IF" else np.uint16))
    return np.asarray(image.convert("RGB")).max(2)


def is_lossy(path: Path, image: Image.Image) -> bool:
    """Returns whether the compression of an image file, which is open as `image`, changes levels."""
    if image.format == "WEBP":
        return b"VP8L" not in _chunks(path.read_bytes())
    if image.format == "JPEG2000":
        return not _is_reversible(path.read_bytes())
    return image.format in _LOSSY_FORMATS or image.info.get("compression") in ("jpeg", "webp")


def _transparent_levels(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the levels of a mask with transparency.

    The levels are those of alpha, unless alpha is constant or there are opaque black pixels.
    """
    colours, alpha = rgba[..., :3], rgba[..., 3]
    brightest = colours.max(2)
    if alpha.min() == alpha.max():
        is_blank = alpha.max() == 0 and (colours == colours[0, 0]).all()
        return np.zeros_like(alpha) if is_blank else brightest
    visible = np.unique(colours[alpha > 0], axis=0)
    if 1 < len(visible) <= MAX_CLASS_LEVELS and not visible[0].any():
        return np.where(alpha > 0, brightest, 0).astype(np.uint8)
    return alpha


def _palette_levels(indices: NDArray[np.uint8], brightest: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the brightness of the colours if one of them is black and another is not, else the indices."""
    return brightest if brightest.min() == 0 < brightest.max() else indices


def _threshold_at_half(levels: NDArray[Any], note: str = "", problem: str = "") -> BinaryMask:
    return BinaryMask((levels > 0) & (levels >= levels.max() / 2), note, problem)


def _are_soft_edges(levels: NDArray[Any], between: NDArray[np.bool_]) -> bool:
    """Returns whether most pixels of intermediate levels have both a lower and a higher neighbour."""
    lower = erosion(levels, _EIGHT_NEIGHBOURS) < levels
    higher = dilation(levels, _EIGHT_NEIGHBOURS) > levels
    return bool(np.count_nonzero(between & lower & higher) > np.count_nonzero(between) / 2)


def _has_block_noise(levels: NDArray[Any], between: NDArray[np.bool_]) -> bool:
    """Returns whether intermediate levels are those that JPEG makes, although the file is lossless now.

    They are many, hardly any of them is in the middle of the range, and they lie in JPEG's blocks of 8x8
    pixels with a level in the upper half.
    """
    top = levels.max()
    if len(np.unique(levels[between])) < _MIN_NOISE_LEVELS:
        return False
    in_middle = (levels > 0.3 * top) & (levels < 0.7 * top)
    height, width = levels.shape
    padded = np.pad(levels >= top / 2, ((0, -height % 8), (0, -width % 8)))
    blocks = padded.reshape(len(padded) // 8, 8, -1, 8).any((1, 3))
    near = blocks.repeat(8, 0).repeat(8, 1)[:height, :width]
    unlike = np.count_nonzero(between & (in_middle | ~near))
    return bool(20 * unlike <= np.count_nonzero(between))


def _problem_of_compression(levels: NDArray[Any]) -> str:
    """Returns why half of the largest level may be a wrong threshold for a lossily compressed mask."""
    top = float(levels.max())
    if 0 < top < 64:
        return f"has no level above {top:.0f} of 255, which may be an artefact of compression"
    steps = dilation(levels, _EIGHT_NEIGHBOURS).astype(np.float64) - erosion(levels, _EIGHT_NEIGHBOURS)
    flat = (levels > top / 8) & (levels < top / 2) & (steps <= top / 16)
    inside = erosion(flat.astype(np.uint8), _EIGHT_NEIGHBOURS) > 0
    if not inside.any():
        return ""
    level = np.median(levels[inside])
    return f"has areas of level {level:.0f}, less than half of {top:.0f}, which are not marked"


def _chunks(content: bytes) -> list[bytes]:
    """Returns the names of the chunks of a WebP file, including those in its frames."""
    names, start = [], 12
    while start + 8 <= len(content):
        names.append(content[start : start + 4])
        size = int.from_bytes(content[start + 4 : start + 8], "little")
        start += 8 + (16 if names[-1] == b"ANMF" else size + size % 2)
    return names


def _is_reversible(content: bytes) -> bool:
    """Returns whether the coding style of a JPEG 2000 file names the reversible wavelet."""
    start = content.find(b"\xff\x52")
    return start >= 0 and content[start + 13 : start + 14] == b"\x01"
