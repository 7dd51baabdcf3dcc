"""Fits methods to the same features, measures the time, and computes the metrics of what they find."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import default_collate

from benchmarks.detection.method import Method, anomaly_maps
from vtadl.common.progress import progress
from vtadl.data import ImageFiles, MVTecAD, Sample
from vtadl.data.records import Record
from vtadl.metrics import DetectionMetrics

BATCH = 8  # images that are scored at once
METRICS = ("image_auroc", "pixel_auroc", "aupro")


@dataclass(frozen=True)
class Category:
    """The images of a category, and the features that all methods are given."""

    name: str
    train: Tensor  # [N, 3, H, W]
    train_features: Tensor  # [N, P, F]
    test: Sample
    test_features: Tensor


@dataclass(frozen=True)
class Result:
    """What one method reaches in one category.

    Times are those of the method, without the features: CPU seconds of all threads, which other work on the
    machine hardly changes.
    """

    category: str
    method: str
    image_auroc: float
    pixel_auroc: float
    aupro: float
    fit_cpu_seconds: float
    images_per_cpu_second: float

    def relative_to(self, other: "Result") -> dict[str, float]:
        """Ratios of what is missing to a perfect metric, of the time to fit, and of images per CPU second."""
        missing = {
            f"1 - {name}": _ratio(1 - getattr(self, name), 1 - getattr(other, name)) for name in METRICS
        }
        speed = ("fit_cpu_seconds", "images_per_cpu_second")
        return missing | {name: _ratio(getattr(self, name), getattr(other, name)) for name in speed}


def read_images(root: Path, category: str, image_size: int) -> tuple[Tensor, Sample]:
    """All normal images [N, 3, H, W] for training, and the test images, of a category of MVTec AD."""
    data = MVTecAD(str(root), category, image_size=image_size)
    train = ImageFiles([Record(path) for path in data.normal_images()], data.image_size)
    test = ImageFiles(data.test_records()[0], data.image_size)
    collate = [
        default_collate([files[index] for index in progress(range(len(files)), f"reading {category}")])
        for files in (train, test)
    ]
    return collate[0]["image"], collate[1]


@torch.no_grad()
def measure(method: Method, category: Category) -> Result:
    """Fits a method to the normal images of a category, and scores its test images."""
    start = time.process_time()
    method.fit(category.train, category.train_features)
    fitted = time.process_time()
    images = category.test["image"]
    batches = zip(images.split(BATCH), category.test_features.split(BATCH), strict=True)
    scores = [method.score(*batch) for batch in batches]
    seconds = time.process_time() - fitted
    metrics = DetectionMetrics()
    for own, labels, masks, known in zip(
        scores, *(category.test[key].split(BATCH) for key in ("label", "mask", "has_mask")), strict=True
    ):
        metrics.update(own.images, labels, anomaly_maps(own.positions, images.shape[-2:]), masks, known)
    values = metrics.compute()
    image_auroc, pixel_auroc, aupro = (values.get(name, float("nan")) for name in METRICS)
    rate = len(images) / seconds
    return Result(category.name, method.name, image_auroc, pixel_auroc, aupro, fitted - start, rate)


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference else float("nan")
