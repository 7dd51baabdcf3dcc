"""Which image is what: labels, kinds of defects, and the masks that belong to images."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vtadl.data.listing import has_image_suffix

# What may follow the image's name in the name of its mask.
_MASK = re.compile(
    r"(?<=.)[-_. ](mask|gt|ground[-_ ]?truth|label|seg|segmentation|annotation)$", re.IGNORECASE
)


# Names that folders of anything but normal images have in published data and by custom.
_NOT_NORMAL = re.compile(
    "test|ground[-_ ]?truth|gt|masks?|labels?|annotations?|"
    "bad|ng|nok|ko|faulty|defect(s|ive)?|anomal(y|ies|ous)",
    re.IGNORECASE,
)


class Record(NamedTuple):
    """Where a sample comes from."""

    path: Path
    label: int = 0  # 0 normal, 1 anomalous
    mask: Path | None = None  # a file, or a folder of several masks that count together
    kind: str = "good"  # of defect


class Pairing(NamedTuple):
    """The masks of images, and what is wrong with them, one sentence each."""

    mask_of: dict[Path, Path]
    problems: list[str]


def pair_masks(
    images: Iterable[Path], image_base: Path, *masks_below: tuple[Path, Sequence[Path]]
) -> Pairing:
    """Finds the mask of each image, among the masks below one folder or several.

    A mask belongs to the image that has the same path below its base, but for the suffix and for `_mask` or
    the like at the end of the name: `scratch/007.png` below `image_base` has the mask `scratch/007_mask.png`
    or `scratch/007.bmp` below its own base, or all masks in the folder `scratch/007`. Names alone would not
    do: they repeat from folder to folder.
    """
    images_of: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        images_of[_stem_below(path, image_base)].append(path)
    pairing = Pairing({}, [])
    for mask, mask_base in ((mask, base) for base, masks in masks_below for mask in masks):
        names = list(image_names(_stem_below(mask, mask_base)))
        owner, found = mask, _first(images_of, names)
        if not found and mask.parent != mask_base:  # maybe one of several
            owner = mask.parent
            found = _first(images_of, image_names(owner.relative_to(mask_base).as_posix()))
        if len(found) != 1:
            count = "several images" if found else "no image"
            pairing.problems.append(f"mask {mask} has {count} named {names[-1]} in {image_base}")
        elif pairing.mask_of.setdefault(found[0], owner) != owner:
            pairing.problems.append(
                f"image {found[0]} has two masks, {pairing.mask_of[found[0]]} and {owner}"
            )
    return pairing


def masks_beside(images: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Images, and masks that lie beside them: `7_mask.png` beside `7.jpg`."""
    stem_of = {path: path.with_suffix("") for path in images}
    stems = set(stem_of.values())
    masks = [
        path
        for path, stem in stem_of.items()
        if _MASK.search(stem.name) and stem.with_name(_MASK.sub("", stem.name)) in stems
    ]
    return [path for path in stem_of if path not in set(masks)], masks


def not_normal(path: Path) -> bool:
    """Whether an image is called as masks and anomalous images are, or lies in a folder that is."""
    folders = any(map(_NOT_NORMAL.fullmatch, path.parent.parts))
    return folders or _MASK.search(path.stem) is not None


def image_names(mask: str) -> Iterator[str]:
    """What the image of a mask may be called, both without suffix: `7` for `7`, `7_mask` or `7.png_mask`."""
    for name in dict.fromkeys((mask, _MASK.sub("", mask))):
        yield name
        if has_image_suffix(Path(name)):
            yield Path(name).with_suffix("").as_posix()


def _first(images_of: dict[str, list[Path]], names: Iterable[str]) -> list[Path]:
    return next((images_of[name] for name in names if name in images_of), [])


def _stem_below(path: Path, base: Path) -> str:
    """The path below a folder, without the suffix."""
    return path.relative_to(base).with_suffix("").as_posix()
