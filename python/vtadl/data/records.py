"""Records of images: their labels, kinds of defects and masks."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vtadl.data.formats import has_image_suffix

# The endings by which the name of a mask may differ from that of its image.
_MASK_ENDING = re.compile(
    r"(?<=.)[-_. ](mask|gt|ground[-_ ]?truth|label|seg|segmentation|annotation)$", re.IGNORECASE
)

# Usual names of folders whose images are not normal.
_ANOMALOUS_FOLDER = re.compile(
    "test|ground[-_ ]?truth|gt|masks?|labels?|annotations?|"
    "bad|ng|nok|ko|faulty|defect(s|ive)?|anomal(y|ies|ous)",
    re.IGNORECASE,
)


class Record(NamedTuple):
    """The files and labels of an image."""

    path: Path
    label: int = 0  # 0 normal, 1 anomalous
    mask: Path | None = None  # a file, or a folder of several masks whose union is used
    kind: str = "good"  # kind of defect
    category: str = ""  # name of the product; empty if the data set names none


class MaskPairing(NamedTuple):
    """The masks of images, and sentences about masks without an image and images with two masks."""

    mask_of: dict[Path, Path]
    problems: list[str]


def pair_masks(
    images: Iterable[Path], image_base: Path, *masks_below: tuple[Path, Sequence[Path]]
) -> MaskPairing:
    """Finds the mask of each image among the masks below one or several base folders.

    A mask belongs to the image with the same path below the base, apart from the suffix and an ending such as
    `_mask`: the mask of `scratch/007.png` below `image_base` is `scratch/007_mask.png` or `scratch/007.bmp`
    below the base of the masks, or the union of all masks in the folder `scratch/007`. Paths are compared
    rather than names, because names may repeat from folder to folder.
    """
    images_of: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        images_of[_stem_below(path, image_base)].append(path)
    pairing = MaskPairing({}, [])
    for mask, mask_base in ((mask, base) for base, masks in masks_below for mask in masks):
        stems = list(image_stems(_stem_below(mask, mask_base)))
        mask_or_folder, candidates = mask, _first_match(images_of, stems)
        if not candidates and mask.parent != mask_base:  # the folder may hold several masks of one image
            mask_or_folder = mask.parent
            folder_stem = mask_or_folder.relative_to(mask_base).as_posix()
            candidates = _first_match(images_of, image_stems(folder_stem))
        if len(candidates) != 1:
            count = "several images" if candidates else "no image"
            pairing.problems.append(f"mask {mask} has {count} named {stems[-1]} in {image_base}")
        elif pairing.mask_of.setdefault(candidates[0], mask_or_folder) != mask_or_folder:
            other = pairing.mask_of[candidates[0]]
            pairing.problems.append(f"image {candidates[0]} has two masks, {other} and {mask_or_folder}")
    return pairing


def separate_masks(images: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Separates images from masks that lie beside them, such as `7_mask.png` beside `7.jpg`."""
    stem_of = {path: path.with_suffix("") for path in images}
    stems = set(stem_of.values())
    masks = [
        path
        for path, stem in stem_of.items()
        if _MASK_ENDING.search(stem.name) and stem.with_name(_MASK_ENDING.sub("", stem.name)) in stems
    ]
    return [path for path in stem_of if path not in set(masks)], masks


def is_named_as_anomalous(path: Path) -> bool:
    """Returns whether a path has the name of a mask, or a folder with a usual name of anomalous images."""
    in_anomalous_folder = any(map(_ANOMALOUS_FOLDER.fullmatch, path.parent.parts))
    return in_anomalous_folder or _MASK_ENDING.search(path.stem) is not None


def image_stems(mask_stem: str) -> Iterator[str]:
    """Yields the stems that the image of a mask may have: `7`, for example, for `7_mask` or `7.png_mask`."""
    for stem in dict.fromkeys((mask_stem, _MASK_ENDING.sub("", mask_stem))):
        yield stem
        if has_image_suffix(Path(stem)):
            yield Path(stem).with_suffix("").as_posix()


def _first_match(images_of: dict[str, list[Path]], stems: Iterable[str]) -> list[Path]:
    return next((images_of[stem] for stem in stems if stem in images_of), [])


def _stem_below(path: Path, base: Path) -> str:
    """Returns the path below a folder, without the suffix."""
    return path.relative_to(base).with_suffix("").as_posix()
