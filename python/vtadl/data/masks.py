"""Which pixels a mask marks, whatever the format and the mode of its file."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.morphology import dilation, erosion

from vtadl.errors import InputError

FEW = 16  # levels or colours, at most, where each stands for something
_LOSSY = ("AVIF", "JPEG", "MPO")
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.uint8)


class Marks(NamedTuple):
    """The pixels that a mask marks, and where its meaning had to be guessed."""

    pixels: NDArray[np.bool_]  # [H, W]
    note: str = ""  # how it was read, where there is another way
    problem: str = ""  # why it may mean something else


def marks_of(image: Image.Image, lossy: bool) -> Marks:
    """What a mask marks: all that is not background, which is 0, black or transparent.

    Of a lossily compressed file that is what reaches half of the largest level, because compression leaves
    low levels around each edge; so it is where resizing has made the edges soft. Otherwise every level above
    0 counts, whether it is 1, 255, the number of a class or that of a kind of defect.

    Raises:
        ValueError: If the levels are not all numbers.
    """
    levels = levels_of(image)
    if not np.isfinite(levels).all():
        raise ValueError("its pixels are not all finite numbers")
    if lossy:
        return _read_at_half(levels, problem=_problem_of_loss(levels))
    between = (levels > 0) & (levels < levels.max())
    count = len(np.unique(levels))
    if not between.any() or not _lie_on_slopes(levels, between):
        return Marks(levels > 0)
    if 4 * np.count_nonzero(levels >= 0.9 * levels.max()) >= np.count_nonzero(between):
        half = "what reaches half of its largest value is marked"
        return _read_at_half(levels, f"has soft edges ({count} levels): {half}")
    if count <= FEW:
        return Marks(levels > 0)
    return Marks(levels > 0, problem=f"has {count} levels and no clear edges: every value above 0 is marked")


def join_marks(masks: dict[Path, Marks]) -> Marks:
    """What several masks of one image mark together.

    Raises:
        InputError: If they differ in size.
    """
    first = next(iter(masks))
    for path, marks in masks.items():
        if marks.pixels.shape != masks[first].pixels.shape:
            raise InputError(f"masks {first} and {path} of one image differ in size")
    return Marks(
        np.any([marks.pixels for marks in masks.values()], axis=0),
        "; ".join(f"{path.name} {marks.note}" for path, marks in masks.items() if marks.note),
        "; ".join(f"{path.name} {marks.problem}" for path, marks in masks.items() if marks.problem),
    )


def looks_inverted(marked: NDArray[np.bool_]) -> bool:
    """Whether a mask marks most of its image, and nearly all along the border."""
    border = np.concatenate([marked[0], marked[-1], marked[:, 0], marked[:, -1]])
    return bool(marked.mean() > 0.5 and border.mean() > 0.9)


def levels_of(image: Image.Image) -> NDArray[Any]:
    """One number for each pixel, 0 for the background.

    Of a colour it is the largest of red, green and blue. Transparent pixels are background.
    """
    if image.has_transparency_data:
        return _transparent_levels(np.asarray(image.convert("RGBA")))
    if image.mode == "P":
        return _palette_levels(np.asarray(image), np.asarray(image.convert("RGB")).max(2))
    if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
        return np.abs(np.asarray(image).astype(np.float64 if image.mode in "IF" else np.uint16))
    return np.asarray(image.convert("RGB")).max(2)


def is_lossy(path: Path, image: Image.Image) -> bool:
    """Whether the compression of an image file, which has been opened, changes levels."""
    if image.format == "WEBP":
        return b"VP8L" not in _chunks(path.read_bytes())
    if image.format == "JPEG2000":
        return not _is_reversible(path.read_bytes())
    return image.format in _LOSSY or image.info.get("compression") in ("jpeg", "webp")


def _transparent_levels(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Levels where there is transparency: in alpha, unless that is constant or black pixels are opaque."""
    colours, alpha = rgba[..., :3], rgba[..., 3]
    brightest = colours.max(2)
    if alpha.min() == alpha.max():
        is_blank = alpha.max() == 0 and (colours == colours[0, 0]).all()
        return np.zeros_like(alpha) if is_blank else brightest
    visible = np.unique(colours[alpha > 0], axis=0)
    if 1 < len(visible) <= FEW and not visible[0].any():
        return np.where(alpha > 0, brightest, 0).astype(np.uint8)
    return alpha


def _palette_levels(indices: NDArray[np.uint8], brightest: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Levels by colour where some colour is black and another is not; otherwise by index."""
    return brightest if brightest.min() == 0 < brightest.max() else indices


def _read_at_half(levels: NDArray[Any], note: str = "", problem: str = "") -> Marks:
    return Marks((levels > 0) & (levels >= levels.max() / 2), note, problem)


def _lie_on_slopes(levels: NDArray[Any], between: NDArray[np.bool_]) -> bool:
    """Whether most pixels of middle levels have a lower and a higher neighbour, as at soft edges."""
    lower = erosion(levels, _EIGHT_NEIGHBOURS) < levels
    higher = dilation(levels, _EIGHT_NEIGHBOURS) > levels
    return bool(np.count_nonzero(between & lower & higher) > np.count_nonzero(between) / 2)


def _problem_of_loss(levels: NDArray[Any]) -> str:
    """Why half of the largest level may not be what a lossily compressed mask means."""
    top = float(levels.max())
    if 0 < top < 64:
        return f"has no level above {top:.0f} of 255, which compression may have made"
    steps = dilation(levels, _EIGHT_NEIGHBOURS).astype(np.float64) - erosion(levels, _EIGHT_NEIGHBOURS)
    flat = (levels > top / 8) & (levels < top / 2) & (steps <= top / 16)
    inside = erosion(flat.astype(np.uint8), _EIGHT_NEIGHBOURS) > 0
    if not inside.any():
        return ""
    return f"has areas of level {np.median(levels[inside]):.0f}, less than half of {top:.0f}, left unmarked"


def _chunks(content: bytes) -> list[bytes]:
    """Names of the chunks of a WebP file, and of those in its frames."""
    names, start = [], 12
    while start + 8 <= len(content):
        names.append(content[start : start + 4])
        size = int.from_bytes(content[start + 4 : start + 8], "little")
        start += 8 + (16 if names[-1] == b"ANMF" else size + size % 2)
    return names


def _is_reversible(content: bytes) -> bool:
    """Whether a JPEG 2000 file was made with the reversible wavelet, which its coding style names."""
    start = content.find(b"\xff\x52")
    return start >= 0 and content[start + 13 : start + 14] == b"\x01"
