"""`vtadl predict`: scores, anomaly maps and masks of image files."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vtadl.cli.find_images import describe, find_images
from vtadl.cli.parsing import Parser
from vtadl.cli.prediction_files import write_pictures, write_scores
from vtadl.common.progress import progress
from vtadl.common.ranges import require_not_negative, require_positive
from vtadl.data.images import MAX_PIXELS, open_image, to_uint8_rgb
from vtadl.data.inputs import PreparedImage, from_pil
from vtadl.data.predictions import listed_pictures
from vtadl.detector import Detection, Detector
from vtadl.errors import InputError
from vtadl.images.pixels import ResizeMode
from vtadl.report.rendering import RGBImage
from vtadl.scoring.brightness import brightness
from vtadl.scoring.false_alarms import all_images_sentence


class LoadedImage(NamedTuple):
    """An image file that has been read, or the error that prevents reading it."""

    name: str
    image: PreparedImage | None
    pixels: RGBImage | None  # in the size of the file
    error: str = ""


class PredictionFiles(Dataset[LoadedImage]):
    """Reads image files; a file that cannot be read gives an entry with an error."""

    def __init__(
        self,
        paths: dict[str, Path],
        size: tuple[int, int],
        resize_mode: ResizeMode,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.entries = list(paths.items())
        self.size = size
        self.resize_mode: ResizeMode = resize_mode
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> LoadedImage:
        name, path = self.entries[index]
        try:
            image = open_image(path, self.max_pixels)
            prepared = from_pil(image, self.size, self.resize_mode, str(path))
            return LoadedImage(name, prepared, to_uint8_rgb(image))
        except InputError as error:
            return LoadedImage(name, None, None, str(error))


def run(arguments: Sequence[str]) -> list[str]:
    """Runs the command, and returns the names of the images that could not be read."""
    parser = Parser(
        prog="vtadl predict",
        usage="vtadl predict --ckpt RUN_OR_FILE IMAGE... [-o FOLDER] [options]",
        description="Scores images with a trained detector. Writes scores.csv, scores.json and, for each "
        "image, an anomaly map, a mask and an overlay.",
    )
    parser.add_argument(
        "images",
        nargs="*",
        type=str,
        help="Image files, folders of them, or patterns such as 'new/**/*.png'.",
    )
    parser.add_argument(
        "--images",
        dest="more_images",
        nargs="*",
        type=str,
        default=[],
        help="Further images, given likewise.",
    )
    parser.add_argument(
        *("--ckpt", "--checkpoint"),
        required=True,
        type=str,
        help="Checkpoint of a trained detector, or the folder of a run, whose best checkpoint is used.",
    )
    parser.add_argument(
        "--category",
        type=str,
        default="",
        help="Category that the images show, whose thresholds are used; needed for a detector of several.",
    )
    parser.add_argument(
        "--threshold",
        type=float | None,
        default=None,
        help="Score that an anomalous image exceeds, instead of the threshold of the checkpoint.",
    )
    parser.add_argument(
        "--false_alarm_rate",
        type=float | None,
        default=None,
        help="Fraction of normal images that may exceed the threshold, instead of that of the training.",
    )
    parser.add_argument("-o", "--output", type=str, default="predictions", help="Folder to write to.")
    add_scoring_options(parser)
    options = vars(parser.parse_args(list(arguments)))
    images = [*options.pop("images"), *options.pop("more_images")]
    if not images:
        parser.error("no images are given")
    return predict(images, **options)


def add_scoring_options(parser: Parser) -> None:
    """Adds the options of every command that scores images."""
    parser.add_argument("--batch_size", type=int, default=16, help="Number of images scored at once.")
    parser.add_argument("--workers", type=int, default=0, help="Number of processes that read images.")
    parser.add_argument("--device", type=str, default="auto", help="Device: auto, cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--max_pixels", type=int, default=MAX_PIXELS, help="Files with more pixels are not read."
    )


def list_images(arguments: Sequence[str]) -> dict[str, Path]:
    """Finds images by their names, and says on standard error which files are left out."""
    paths, excluded = find_images(arguments)
    if excluded:
        print(f"vtadl: {describe(excluded)}", file=sys.stderr)
    return paths


def image_loader(
    detector: Detector, paths: dict[str, Path], batch_size: int, workers: int, max_pixels: int
) -> DataLoader[LoadedImage]:
    """Loads images, as a detector takes them, in batches that are lists."""
    dataset = PredictionFiles(paths, detector.image_size, detector.module.resize_mode, max_pixels)
    return DataLoader(dataset, batch_size, num_workers=workers, collate_fn=list)


def predict(
    images: Sequence[str],
    ckpt: str,
    output: str = "predictions",
    batch_size: int = 16,
    workers: int = 0,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
    category: str = "",
    threshold: float | None = None,
    false_alarm_rate: float | None = None,
) -> list[str]:
    """Scores images, and writes the results to a folder.

    The results are scores.csv, scores.json and, for each image, a 16-bit map, a mask and an overlay. An image
    that cannot be read is named on standard error and in scores.json, and does not affect the others.
    Pictures that an earlier call wrote are never scored.

    Args:
        images: Image files, folders of them, or patterns such as `new/**/*.png`.
        ckpt: Checkpoint of a trained detector, or the folder of a run.
        output: Folder to write to.
        batch_size: Number of images scored at once.
        workers: Number of processes that read images.
        device: Device: auto, cpu, cuda, cuda:1, ...
        max_pixels: Files with more pixels are not read.
        category: Category that the images show, if the detector has several.
        threshold: Score that an anomalous image exceeds, instead of the threshold of the checkpoint.
        false_alarm_rate: Fraction of normal images that may exceed the threshold, instead of the stored one.

    Returns:
        The names of the images that could not be read.

    Raises:
        InputError: If no image is found or can be read, there is no such detector, category or device, or
            the output cannot be written.
    """
    require_positive(batch_size=batch_size, max_pixels=max_pixels)
    require_not_negative(workers=workers)
    detector = Detector.load(ckpt, device)
    detector.require_category(category)
    calibration = detector.module.calibration.of(category)
    if threshold is not None or false_alarm_rate is not None:
        detector.use_threshold(threshold, false_alarm_rate, category)
        if false_alarm_rate is not None:
            print(calibration.sentence())
    loader = image_loader(detector, list_images(images), batch_size, workers, max_pixels)
    rows, unreadable, levels = [], [], []
    folder = Path(os.path.expanduser(output))
    if listed_pictures(folder / "scores.json") is None:
        # This file identifies the pictures of the run as predictions, even if the run is interrupted.
        write_scores(folder, calibration, [], [])
    for batch in progress(loader, "scoring"):
        for loaded, detection in detect(detector, batch, category):
            if detection is None or loaded.pixels is None or loaded.image is None:
                print(f"vtadl: {loaded.error}", file=sys.stderr)
                unreadable.append({"image": loaded.name, "error": loaded.error})
            else:
                rows.append(write_pictures(folder, loaded.name, loaded.pixels, detection))
                levels.append(brightness(loaded.image.pixels[None]))
    write_scores(folder, calibration, rows, unreadable)
    if not rows:
        raise InputError("none of the images could be read")
    anomalous = sum(row["anomalous"] for row in rows)
    notes = (
        all_images_sentence(calibration, anomalous, len(rows)),
        detector.module.brightness_sentence(normal_levels(rows, levels), category),
    )
    for note in filter(None, notes):
        print(f"vtadl: {note}", file=sys.stderr)
    print(f"{len(rows)} images, {anomalous} of them anomalous: {folder / 'scores.csv'}")
    return [entry["image"] for entry in unreadable]


def normal_levels(rows: Sequence[dict[str, Any]], levels: Sequence[Tensor]) -> Tensor:
    """Returns the mean grey levels of the images that look normal; of all, if fewer than a quarter does.

    An anomaly may be dark or bright, and another light may make all images look anomalous.
    """
    normal = [level for row, level in zip(rows, levels, strict=True) if not row["anomalous"]]
    return torch.cat(normal if 4 * len(normal) >= len(levels) else list(levels))


def detect(
    detector: Detector, batch: Sequence[LoadedImage], category: str = ""
) -> Iterator[tuple[LoadedImage, Detection | None]]:
    """Yields each image with its detection, which is None if the image could not be read."""
    images = [loaded.image for loaded in batch if loaded.image is not None]
    detections = detector.detect(images, len(batch), category)
    for loaded in batch:
        yield loaded, None if loaded.image is None else next(detections)
