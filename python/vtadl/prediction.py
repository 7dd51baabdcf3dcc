"""`vtadl predict`: scores, anomaly maps and masks of image files."""

import csv
import glob
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch.utils.data import DataLoader, Dataset

from vtadl.data.images import Fit, eight_bit_rgb, list_images, open_image
from vtadl.detector import Detection, Detector
from vtadl.errors import InputError
from vtadl.files import atomic_path
from vtadl.inputs import Picture, from_pil
from vtadl.pictures import Pixels, overlay_picture, sixteen_bit
from vtadl.progress import progress
from vtadl.ranges import require_not_negative, require_positive


class Loaded(NamedTuple):
    """An image file: its picture, or why there is none."""

    name: str
    picture: Picture | None
    pixels: Pixels | None  # in the size of the file
    error: str = ""


class PredictionFiles(Dataset[Loaded]):
    """Reads image files; one that cannot be read is an entry too."""

    def __init__(self, names: dict[str, Path], size: tuple[int, int], fit: Fit) -> None:
        self.entries = list(names.items())
        self.size = size
        self.fit: Fit = fit

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Loaded:
        name, path = self.entries[index]
        try:
            image = open_image(path)
            return Loaded(name, from_pil(image, self.size, self.fit, str(path)), eight_bit_rgb(image))
        except InputError as error:
            return Loaded(name, None, None, str(error))


def predict(
    images: Sequence[str],
    ckpt: str,
    output: str = "predictions",
    batch_size: int = 16,
    workers: int = 0,
    device: str = "auto",
) -> list[str]:
    """Scores images and shows where they are unusual.

    Writes scores.csv and scores.json, and for each image a 16-bit map, a mask and an overlay, below `output`.
    An image that cannot be read is named on standard error and in scores.json, and left out of the others.

    Args:
        images: Image files, folders of them, or patterns such as `new/**/*.png`.
        ckpt: Checkpoint of a trained detector, or the folder of a run.
        output: Folder to write to.
        batch_size: Images scored at once.
        workers: Processes that read images.
        device: Where to run: auto, cpu, cuda.

    Returns:
        The names of the images that could not be read.

    Raises:
        InputError: If there are no images or none that can be read, no detector or no such device, or the
            output cannot be written.
    """
    require_positive(batch_size=batch_size)
    require_not_negative(workers=workers)
    detector = Detector.load(ckpt, device)
    dataset = PredictionFiles(find_images(images), detector.image_size, detector.module.fit)
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=list)
    rows, unreadable, folder = [], [], Path(output)
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
        InputError: If an argument stands for nothing.
    """
    if not arguments:
        raise InputError("no images are given")
    paths: dict[Path, None] = {}
    roots = []
    for argument in arguments:
        matches = [argument] if Path(argument).exists() else sorted(glob.glob(argument, recursive=True))
        found = [file for match in matches for file in _files(Path(match))]
        if not found:
            raise InputError(f"there is no image {argument}")
        paths.update(dict.fromkeys(map(_absolute, found)))
        roots += [_folder(_absolute(Path(match))) for match in matches]
    root = os.path.commonpath(roots)
    return {path.relative_to(root).as_posix(): path for path in paths}


def _absolute(path: Path) -> Path:
    """Links stay what they are called."""
    return Path(os.path.abspath(path))


def _files(path: Path) -> list[Path]:
    return list_images(path, "**/*") if path.is_dir() else [path]


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


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
        "map": sixteen_bit(detection.normalised_map),
        "mask": Image.fromarray(detection.mask),
        "overlay": Image.fromarray(overlay_picture(loaded.pixels, detection.normalised_map, detection.mask)),
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
    with atomic_path(folder / "scores.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
