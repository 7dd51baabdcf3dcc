"""The files that `vtadl predict` writes: pictures of each image, and tables of scores."""

import csv
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from vtadl.common.files import atomic_path
from vtadl.detector import Detection
from vtadl.report.rendering import RGBImage, map_to_uint16, render_overlay
from vtadl.scoring.thresholds import Calibration


def write_pictures(folder: Path, name: str, pixels: RGBImage, detection: Detection) -> dict[str, Any]:
    """Writes the map, the mask and the overlay of an image; returns its row of the tables."""
    pictures = {
        "map": map_to_uint16(detection.normalised_map),
        "mask": Image.fromarray(detection.mask),
        "overlay": Image.fromarray(render_overlay(pixels, detection.normalised_map, detection.mask)),
    }
    files = {kind: f"{kind}s/{name}.png" for kind in pictures}
    for kind, picture in pictures.items():
        with atomic_path(folder / files[kind]) as path:
            picture.save(path)
    return {
        "image": name,
        "score": detection.score,
        "normalised_score": detection.normalised_score,
        "anomalous": detection.anomalous,
        "anomalous_area": float(detection.mask.mean()),
        **files,
    }


def write_scores(
    folder: Path,
    calibration: Calibration,
    rows: Sequence[dict[str, Any]],
    unreadable: Sequence[dict[str, str]],
) -> None:
    """Writes scores.csv with a row per image, and scores.json, which adds thresholds and unreadable files."""
    with atomic_path(folder / "scores.json") as path:
        report = {
            "thresholds": calibration.summary(),
            "images": rows,
            "unreadable": unreadable,
        }
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    columns = ("image", "score", "normalised_score", "anomalous", "anomalous_area")
    # surrogateescape keeps the bytes of names that are not UTF-8.
    write = partial(open, mode="w", newline="", encoding="utf-8", errors="surrogateescape")
    with atomic_path(folder / "scores.csv") as path, write(path) as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
