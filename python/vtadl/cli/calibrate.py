"""`vtadl calibrate`: thresholds of a trained detector, taken anew from normal images."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from vtadl.checkpoints import find_checkpoint, read_checkpoint
from vtadl.cli.parsing import Parser
from vtadl.cli.predict import LoadedImage, add_scoring_options, image_loader, list_images
from vtadl.common.files import atomic_path
from vtadl.common.progress import progress
from vtadl.common.ranges import require_fraction, require_not_negative, require_positive
from vtadl.common.text import first_few
from vtadl.data.content import digest
from vtadl.data.images import MAX_PIXELS
from vtadl.data.manifest import Manifest
from vtadl.detector import Detector
from vtadl.errors import InputError, UsageError
from vtadl.scoring.scorer import Scores


def run(arguments: Sequence[str]) -> list[str]:
    """Runs the command, and returns the names of the images that could not be read."""
    parser = Parser(
        prog="vtadl calibrate",
        usage="vtadl calibrate RUN_OR_FILE --images IMAGE... [-o FILE] [options]",
        description="Takes the thresholds of a trained detector anew from normal images, without training. "
        "The checkpoint is replaced, and the previous one is kept beside it, as best.1.ckpt, best.2.ckpt, "
        "and so on.",
    )
    parser.add_argument(
        "run",
        nargs="?",
        type=str,
        help="Folder of a run, whose best checkpoint is used, or the checkpoint of a trained detector.",
    )
    parser.add_argument("--ckpt", "--checkpoint", type=str | None, default=None, help="The same as RUN.")
    parser.add_argument(
        "--images",
        nargs="+",
        type=str,
        default=[],
        help="Normal image files, folders of them, or patterns such as 'new/good/**/*.png'.",
    )
    parser.add_argument(
        "--category",
        type=str,
        default="",
        help="Category that the images show, whose thresholds are taken; needed for a detector of several.",
    )
    parser.add_argument(
        "--false_alarm_rate",
        type=float | None,
        default=None,
        help="Fraction of normal images that may exceed the threshold; by default that of the training.",
    )
    parser.add_argument(
        "-o", "--output", type=str | None, default=None, help="Checkpoint to write instead of the given one."
    )
    add_scoring_options(parser)
    options = vars(parser.parse_args(list(arguments)))
    given = [name for name in (options.pop("run"), options.pop("ckpt")) if name]
    if len(given) != 1:
        raise UsageError("give the folder of a run, or a checkpoint by --ckpt")
    return calibrate(given[0], **options)


def calibrate(
    ckpt: str,
    images: Sequence[str],
    category: str = "",
    false_alarm_rate: float | None = None,
    output: str | None = None,
    batch_size: int = 16,
    workers: int = 0,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
) -> list[str]:
    """Takes the thresholds of a trained detector anew from normal images, and writes the checkpoint.

    Scores stay as they are. Images that the detector was fitted to are left out, because it finds them more
    normal than others. The range of brightness that counts as known is extended by that of the images.

    Args:
        ckpt: Checkpoint of a trained detector, or the folder of a run.
        images: Normal images: files, folders of them, or patterns such as `new/good/**/*.png`.
        category: Category that the images show, if the detector has several.
        false_alarm_rate: Fraction of normal images that may exceed the threshold of images, if another one
            is wanted than that of the training.
        output: Checkpoint to write; by default the given one. A file that exists is kept beside it.
        batch_size: Number of images scored at once.
        workers: Number of processes that read images.
        device: Device: auto, cpu, cuda, cuda:1, ...
        max_pixels: Files with more pixels are not read.

    Returns:
        The names of the images that could not be read.

    Raises:
        InputError: If no image is found, can be read or is new to the detector, there is no such detector,
            category or device, or the output cannot be written.
    """
    require_positive(batch_size=batch_size, max_pixels=max_pixels)
    require_not_negative(workers=workers)
    require_fraction(false_alarm_rate=false_alarm_rate)
    path = find_checkpoint(ckpt)
    detector, checkpoint = Detector.load(path, device), read_checkpoint(path)
    detector.require_category(category)
    paths = _new_images(images, checkpoint)
    loader = image_loader(detector, paths, batch_size, workers, max_pixels)
    calibration, unreadable = detector.module.calibration.of(category), list[str]()
    if false_alarm_rate is not None:
        calibration.image_rate = false_alarm_rate
    scored = list(_score(detector, progress(loader, "scoring"), category, unreadable))
    if not scored:
        raise InputError("none of the images could be read")
    calibration.fit_scores((scores, [""]) for scores in scored)
    target = path if output is None else Path(os.path.expanduser(output))
    backup = _write(detector, checkpoint, target, false_alarm_rate)
    print(f"checkpoint: {target}" + (f"; the previous one: {backup}" if backup else ""))
    for sentence in filter(None, (calibration.sentence(), calibration.pixel_sentence())):
        print(sentence)
    return unreadable


def _new_images(arguments: Sequence[str], checkpoint: dict[str, Any]) -> dict[str, Path]:
    """Finds images, and leaves out those that the detector of a checkpoint was trained with."""
    paths = list_images(arguments)
    saved = checkpoint.get("callbacks", {}).get("TrainingImages")
    known = {entry.digest for entry in Manifest.from_dict(saved).entries} if saved else set[str]()
    seen = [name for name, path in paths.items() if path.is_file() and digest(path.read_bytes()) in known]
    if len(seen) == len(paths):
        raise InputError(
            f"the detector was trained with all of the images ({first_few(seen)}), and finds them more "
            "normal than others: give images that it has not seen"
        )
    if seen:
        print(
            f"vtadl: left out are {len(seen)} images that the detector was trained with ({first_few(seen)})",
            file=sys.stderr,
        )
    return {name: path for name, path in paths.items() if name not in set(seen)}


@torch.inference_mode()
def _score(
    detector: Detector, batches: Iterable[Sequence[LoadedImage]], category: str, unreadable: list[str]
) -> Iterator[Scores]:
    """Yields the scores of each image that can be read, and notes its brightness; names the others."""
    brightness = detector.module.calibration.of(category).brightness
    for batch in batches:
        for loaded in batch:
            if loaded.image is None:
                print(f"vtadl: {loaded.error}", file=sys.stderr)
                unreadable.append(loaded.name)
                continue
            pixels = loaded.image.pixels[None].to(detector.device)
            brightness.update(pixels)
            yield detector.module(pixels)


def _write(
    detector: Detector, checkpoint: dict[str, Any], target: Path, false_alarm_rate: float | None
) -> Path | None:
    """Writes a checkpoint with the thresholds of a detector; returns where the previous file is, if any."""
    state = {f"calibration.{name}": x.cpu() for name, x in detector.module.calibration.state_dict().items()}
    checkpoint["state_dict"] = {**checkpoint["state_dict"], **state}
    if false_alarm_rate is not None:
        settings = checkpoint["hyper_parameters"]
        settings.get("scoring", settings)["image_false_alarm_rate"] = false_alarm_rate
    backup = None
    if target.exists():
        backup = next(path for path in _numbered(target) if not path.exists())
        with atomic_path(backup) as temporary:
            shutil.copy2(target, temporary)
    with atomic_path(target) as temporary:
        torch.save(checkpoint, temporary)
    return backup


def _numbered(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in count(1))
