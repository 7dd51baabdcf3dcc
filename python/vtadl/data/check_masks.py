"""Checks of the masks of a data set."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from vtadl.common.text import first_few
from vtadl.data.data_report import DataReport
from vtadl.data.images import count_frames, open_image, upright_size
from vtadl.data.listing import list_images
from vtadl.data.mask_files import read_binary_mask
from vtadl.data.masks import MAX_CLASS_LEVELS, looks_inverted, mask_levels
from vtadl.data.records import Record
from vtadl.errors import InputError

DEFECTS_CONFIG = "defects_config.json"  # lists the levels of masks in MVTec LOCO AD


def check_mask(record: Record, report: DataReport, max_pixels: int) -> None:
    """Reads the mask of a test image, and reports what is wrong or doubtful about it."""
    path, mask = record.path, record.mask
    assert mask is not None
    try:
        binary = read_binary_mask(mask, max_pixels)
    except InputError as error:
        report.problems.append(str(error))
        return
    if mask.is_file():
        report.notes += multiple_frames({mask: count_frames(mask)})
    size, image_size = binary.pixels.shape[::-1], upright_size(path)
    if size != image_size:
        report.problems.append(f"mask {mask} is {size} pixels, but its image {path} is {image_size}")
    elif binary.pixels.any() != bool(record.label):
        what = "no pixel" if record.label else "pixels of a normal image"
        report.problems.append(f"mask {mask} marks {what}")
    elif binary.problem:
        report.problems.append(f"mask {mask} {binary.problem}")
    elif looks_inverted(binary.pixels):
        report.problems.append(
            f"mask {mask} marks {binary.pixels.mean():.0%} of its image and all of its border; normal pixels "
            "must be 0, black or transparent"
        )
    elif binary.note:
        report.notes.append(f"mask {mask} {binary.note}")


def multiple_frames(frames: dict[Path, int]) -> list[str]:
    """Returns a sentence that names the files with more than one frame, if there are any."""
    several = [path for path, count in frames.items() if count > 1]
    return [f"only the first frame of files with several is read: {first_few(several)}"] if several else []


def unexplained_levels(root: Path, test: Sequence[Record], max_pixels: int) -> list[str]:
    """Returns a sentence about levels of masks that MVTec LOCO AD's list of defects does not explain."""
    explained = {0, 1, 255, *_levels_of_defects(root / DEFECTS_CONFIG)}
    first_with: dict[float, Path] = {}
    for record in test:
        if record.mask is not None and record.mask.is_dir():
            for path in list_images(record.mask):
                with suppress(InputError):  # an unreadable mask has been reported already
                    levels = np.unique(mask_levels(open_image(path, max_pixels)))
                    if len(levels) <= MAX_CLASS_LEVELS:
                        first_with |= dict.fromkeys(levels.tolist(), path)
    unknown = sorted(first_with.keys() - explained)
    if not unknown:
        return []
    return [
        f"no {DEFECTS_CONFIG} in {root} explains level {first_few(f'{level:g}' for level in unknown)} of "
        f"masks such as {first_with[unknown[0]]}; every level but 0 is taken as anomalous"
    ]


def _levels_of_defects(path: Path) -> list[int]:
    """Reads the levels by which the masks of MVTec LOCO AD distinguish kinds of defects."""
    try:
        return [defect["pixel_value"] for defect in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError):
        return []
