"""`vtadl predict`: scores, anomaly maps and masks of image files."""

import csv
import glob
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch.utils.data import DataLoader, Dataset

from vtadl.common.files import absolute_path, atomic_path
from vtadl.common.progress import progress
from vtadl.common.ranges import require_not_negative, require_positive
from vtadl.data.images import MAX_PIXELS, eight_bit_rgb, open_image
from vtadl.data.inputs import Picture, from_pil
from vtadl.data.listing import (
    WRITTEN,
    files_below,
    first_few,
    is_predicted,
    matches,
    split_glob,
    why_left_out,
    written_pictures,
)
from vtadl.detector import Detection, Detector
from vtadl.errors import InputError
from vtadl.images.pixels import ResizeMode
from vtadl.report.rendering import RGBImage, map_to_uint16, render_overlay


class Loaded(NamedTuple):
    """An image file: its picture, or why there is none."""

    name: str
    picture: Picture | None
    pixels: RGBImage | None  # in the size of the file
    error: str = ""


class PredictionFiles(Dataset[Loaded]):
    """Reads image files; one that cannot be read is an entry too."""

    def __init__(
        self,
        names: dict[str, Path],
        size: tuple[int, int],
        resize_mode: ResizeMode,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.entries = list(names.items())
        self.size = size
        self.resize_mode: ResizeMode = resize_mode
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Loaded:
        name, path = self.entries[index]
        try:
            image = open_image(path, self.max_pixels)
            return Loaded(name, from_pil(image, self.size, self.resize_mode, str(path)), eight_bit_rgb(image))
        except InputError as error:
            return Loaded(name, None, None, str(error))


def predict(
    images: Sequence[str],
    ckpt: str,
    output: str = "predictions",
    batch_size: int = 16,
    workers: int = 0,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
) -> list[str]:
    """Scores images and shows where they are unusual.

    Writes scores.csv and scores.json, and for each image a 16-bit map, a mask and an overlay, below `output`.
    An image that cannot be read is named on standard error and in scores.json, and left out of the others.
    Pictures that an earlier call wrote are never taken for images.

    Args:
        images: Image files, folders of them, or patterns such as `new/**/*.png`.
        ckpt: Checkpoint of a trained detector, or the folder of a run.
        output: Folder to write to.
        batch_size: Images scored at once.
        workers: Processes that read images.
        device: Where to run: auto, cpu, cuda.
        max_pixels: A file with more is not read.

    Returns:
        The names of the images that could not be read.

    Raises:
        InputError: If there are no images or none that can be read, no detector or no such device, or the
            output cannot be written.
    """
    require_positive(batch_size=batch_size, max_pixels=max_pixels)
    require_not_negative(workers=workers)
    detector = Detector.load(ckpt, device)
    names, left_out = survey(images)
    if left_out:
        print(f"vtadl: {_summary(left_out)}", file=sys.stderr)
    dataset = PredictionFiles(names, detector.image_size, detector.module.resize_mode, max_pixels)
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=list)
    rows, unreadable, folder = [], [], Path(os.path.expanduser(output))
    if written_pictures(folder / "scores.json") is None:
        write_scores(folder, detector, [], [])  # even an interrupted run is to be known by it
    for batch in progress(loader, "scoring"):
        for loaded, detection in detect(detector, batch):
            if detection is None:
                print(f"vtadl: {loaded.error}", file=sys.stderr)
                unreadable.append({"image": loaded.name, "error": loaded.error})
            else:
                rows.append(write_pictures(folder, loaded, detection))
    write_scores(folder, detector, rows, unreadable)
    if not rows:
        raise InputError("none of the images could be read")
    anomalous = sum(row["anomalous"] for row in rows)
    print(f"{len(rows)} images, {anomalous} of them anomalous: {folder / 'scores.csv'}")
    return [entry["image"] for entry in unreadable]


def find_images(arguments: Sequence[str]) -> dict[str, Path]:
    """The image files that files, folders and patterns stand for, by their path below what they share.

    Raises:
        InputError: If an argument stands for no image.
    """
    return survey(arguments)[0]


def survey(arguments: Sequence[str]) -> tuple[dict[str, Path], dict[Path, str]]:
    """The same, and why each of the other files that the arguments stand for is left out."""
    if not arguments:
        raise InputError("no images are given")
    folder_of: dict[Path, Path] = {}  # below which the name of an image begins
    left_out: dict[Path, str] = {}
    for argument in arguments:
        reason_of = {_absolute(path): (folder, reason) for path, folder, reason in _stands_for(argument)}
        images = {
            path: _absolute(folder) for path, (folder, reason) in sorted(reason_of.items()) if not reason
        }
        others = {path: reason for path, (_, reason) in sorted(reason_of.items()) if reason}
        if not images and set(others.values()) != {WRITTEN}:  # which a shell may give one by one
            raise InputError(f"there is no image {argument}" + (f"; {_summary(others)}" if others else ""))
        folder_of |= {path: folder for path, folder in images.items() if path not in folder_of}
        left_out |= others
    if not folder_of:
        raise InputError(f"there is no image {first_few(arguments)}; {_summary(left_out)}")
    root = os.path.commonpath(list(folder_of.values()))
    return {path.relative_to(root).as_posix(): path for path in folder_of}, left_out


def _stands_for(argument: str) -> Iterator[tuple[Path, Path, str]]:
    """The files that an argument stands for, with the folder given or matched, and why they are left out."""
    given = Path(os.path.expanduser(argument))
    if given.is_dir():
        yield from ((path, given, why_left_out(path, given)) for path in files_below(given))
    elif os.path.lexists(given):  # is read, whatever it is called
        yield given, given.parent, WRITTEN if is_predicted(given) else ""
    else:
        for path, folder in _matching(argument):
            yield path, folder, why_left_out(path, folder)


def _matching(pattern: str) -> Iterator[tuple[Path, Path]]:
    """The files that a pattern matches, or whose folder it matches, each with the folder."""
    try:
        base, parts = split_glob(Path(), pattern)
    except ValueError as error:
        raise InputError(f"{pattern} is no pattern: {error}") from error
    if "**" not in parts:  # all that is below the base may be much
        for match in sorted(map(Path, glob.glob(os.path.join(glob.escape(str(base)), *parts)))):
            yield from ((path, match) for path in files_below(match))
            if not match.is_dir():
                yield match, match.parent
        return
    for path in files_below(base):
        names = path.relative_to(base).parts
        matched = [names[:end] for end in range(len(names) + 1) if matches(names[:end], parts)]
        if matched:
            yield path, path.parent if matched[0] == names else base.joinpath(*matched[0])


def _summary(left_out: dict[Path, str]) -> str:
    """How many files are left out, and why."""
    counts = Counter(left_out.values())
    return "left out are " + ", ".join(
        f"{count} {reason} ({first_few(path for path, why in left_out.items() if why == reason)})"
        for reason, count in counts.items()
    )


def _absolute(path: Path) -> Path:
    return Path(absolute_path(path))


def detect(detector: Detector, batch: Sequence[Loaded]) -> Iterator[tuple[Loaded, Detection | None]]:
    """Each file with its detection, None where it could not be read."""
    pictures = [loaded.picture for loaded in batch if loaded.picture is not None]
    detections = detector.detect(pictures, len(batch))
    for loaded in batch:
        yield loaded, None if loaded.picture is None else next(detections)


def write_pictures(folder: Path, loaded: Loaded, detection: Detection) -> dict[str, Any]:
    """Writes the map, the mask and the overlay; returns the image's row of the tables."""
    assert loaded.pixels is not None
    pictures = {
        "map": map_to_uint16(detection.normalised_map),
        "mask": Image.fromarray(detection.mask),
        "overlay": Image.fromarray(render_overlay(loaded.pixels, detection.normalised_map, detection.mask)),
    }
    files = {kind: f"{kind}s/{loaded.name}.png" for kind in pictures}
    for kind, picture in pictures.items():
        with atomic_path(folder / files[kind]) as path:
            picture.save(path)
    return {
        "image": loaded.name,
        "score": detection.score,
        "normalised_score": detection.normalised_score,
        "anomalous": detection.anomalous,
        "anomalous_area": float(detection.mask.mean()),
        **files,
    }


def write_scores(
    folder: Path, detector: Detector, rows: Sequence[dict[str, Any]], unreadable: Sequence[dict[str, str]]
) -> None:
    """Writes scores.csv, a row per image, and scores.json with the thresholds and what could not be read."""
    with atomic_path(folder / "scores.json") as path:
        report = {
            "thresholds": detector.module.calibration.summary(),
            "images": rows,
            "unreadable": unreadable,
        }
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    columns = ("image", "score", "normalised_score", "anomalous", "anomalous_area")
    # A name that is not UTF-8 keeps its bytes.
    write = partial(open, mode="w", newline="", encoding="utf-8", errors="surrogateescape")
    with atomic_path(folder / "scores.csv") as path, write(path) as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
