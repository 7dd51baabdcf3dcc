"""Which image is what: labels, kinds of defects, and the masks that belong to images."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MASK_SUFFIX = "_mask"


class Record(NamedTuple):
    """Where a sample comes from."""

    path: Path
    label: int = 0  # 0 normal, 1 anomalous
    mask: Path | None = None
    kind: str = "good"  # of defect


class Pairing(NamedTuple):
    """The masks of images, and what is wrong with them, one sentence each."""

    mask_of: dict[Path, Path]
    problems: list[str]


def pair_masks(images: Iterable[Path], image_base: Path, masks: Iterable[Path], mask_base: Path) -> Pairing:
    """Finds the mask of each image.

    A mask belongs to the image that has the same path below its base, but for the suffix and for `_mask` at
    the end of the name: `scratch/007.png` below `image_base` has the mask `scratch/007_mask.png` or
    `scratch/007.bmp` below `mask_base`. Names alone would not do: they repeat from folder to folder.
    """
    images_of: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        images_of[_stem_below(path, image_base)].append(path)
    pairing = Pairing({}, [])
    for mask in masks:
        name = _stem_below(mask, mask_base).removesuffix(MASK_SUFFIX)
        found = images_of.get(name, [])
        if len(found) != 1:
            count = "several images" if found else "no image"
            pairing.problems.append(f"mask {mask} has {count} named {name} in {image_base}")
        elif found[0] in pairing.mask_of:
            pairing.problems.append(f"image {found[0]} has two masks, {pairing.mask_of[found[0]]} and {mask}")
        else:
            pairing.mask_of[found[0]] = mask
    return pairing


def _stem_below(path: Path, base: Path) -> str:
    """The path below a folder, without the suffix."""
    return path.relative_to(base).with_suffix("").as_posix()
