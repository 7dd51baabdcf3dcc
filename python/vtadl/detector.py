"""A trained detector for use in Python: images in, decisions out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtadl.checkpoints import load_detector
from vtadl.common.precision import full_precision
from vtadl.common.ranges import require_fraction, require_positive
from vtadl.data.images import MAX_PIXELS
from vtadl.data.inputs import PreparedImage, prepare_images
from vtadl.errors import InputError
from vtadl.images.pixels import restore_map_size
from vtadl.lightning_module import AnomalyDetector
from vtadl.scoring.scorer import Scores
from vtadl.scoring.thresholds import Calibration, decide

Input = str | Path | Image.Image | NDArray[Any] | Tensor


@dataclass(frozen=True)
class Detection:
    """The result for one image; maps are as large as the image."""

    score: float  # larger is more anomalous
    normalised_score: float  # in [0, 1]: 0.5 is the threshold, 0.25 the median of normal images
    anomalous: bool  # whether the score exceeds the threshold
    map: NDArray[np.float32]  # [H, W] the score of each pixel
    normalised_map: NDArray[np.float32]  # [H, W] in [0, 1], as normalised_score
    mask: NDArray[np.bool_]  # [H, W] the pixels above their threshold

    @property
    def label(self) -> str:
        return "anomalous" if self.anomalous else "normal"


class Detector:
    """A trained detector with its thresholds.

    >>> detector = Detector.load("runs/parts")
    >>> detection = detector.predict("part.png")
    >>> print(detection.label, detection.normalised_score, detection.mask.mean())
    """

    def __init__(self, module: AnomalyDetector, device: str | torch.device = "auto") -> None:
        """Wraps a trained module.

        Args:
            module: Trained, with thresholds.
            device: Device to run on; "auto" is the GPU if there is one.

        Raises:
            InputError: If the module has no thresholds, or the device does not exist.
        """
        if not module.calibration.image.count:
            raise InputError("the detector has no thresholds: it has not been trained and validated")
        try:
            self.device = torch.device(_best_device() if device == "auto" else device)
            self.module = module.eval().to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"cannot run on device {device!r}: {error}") from error
        self.image_size: tuple[int, int] = module.network.image_size

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "auto") -> "Detector":
        """Loads the detector of a checkpoint, or the best one of a run's folder.

        No code of the file is executed: it is read by torch.load(weights_only=True).

        Raises:
            InputError: If the file is missing or does not hold a detector, or there is no such device.
        """
        return cls(load_detector(path), device)

    def predict(
        self,
        images: Input | Sequence[Input],
        batch_size: int = 16,
        max_pixels: int = MAX_PIXELS,
        category: str = "",
    ) -> Any:
        """Detects anomalies in one image or several.

        Args:
            images: One image, or several: a list, an array [B, H, W, C] or a tensor [B, C, H, W]. An image
                is the path of a file, a PIL image, an array [H, W] or [H, W, C], or a tensor [C, H, W]. Files
                and PIL images are turned as their EXIF says. Arrays and tensors hold floats in [0, 1], bools,
                or integers, whose white is the largest number of their type, as in files of 8 and 16 bits;
                C is 1, 3, or 4 with alpha, which is ignored.
            batch_size: Number of images in a batch.
            max_pixels: Largest number of pixels of a file.
            category: Name of the category that the images show, if the detector has several.

        Returns:
            A Detection, or a list of them for several images.

        Raises:
            InputError: If a file cannot be read, an image has another form, a number is not positive, or the
                detector has no such category.
        """
        require_positive(batch_size=batch_size, max_pixels=max_pixels)
        self.require_category(category)
        pictures, single = prepare_images(images, self.image_size, self.module.resize_mode, max_pixels)
        detections = list(self.detect(pictures, batch_size, category))
        return detections[0] if single else detections

    def require_category(self, category: str) -> None:
        """Raises InputError unless the detector has this category; the only one of a detector has no name."""
        if category and not self.module.calibration.categories:
            raise InputError(f"the detector has one category, which has no name, and none called {category}")
        self.module.calibration.of(category)

    def use_threshold(
        self, threshold: float | None = None, false_alarm_rate: float | None = None, category: str = ""
    ) -> None:
        """Decides about images by another threshold than that of the checkpoint.

        Args:
            threshold: The score that images have to exceed.
            false_alarm_rate: Instead of a score, the fraction of normal images that may exceed it, as far as
                the normal images of the checkpoint can promise that.
            category: Name of the category whose threshold is meant, if the detector has several.

        Raises:
            InputError: If both or neither is given, the fraction is not between 0 and 1, or the checkpoint
                does not know the scores of normal images.
        """
        if (threshold is None) == (false_alarm_rate is None):
            raise InputError("give either a threshold or a false-alarm rate, and not both")
        require_fraction(false_alarm_rate=false_alarm_rate)
        self.require_category(category)
        calibration = self.module.calibration.of(category)
        if false_alarm_rate is not None:
            calibration.image_rate = false_alarm_rate
            calibration.image.set_rate(false_alarm_rate)
        elif threshold is not None:
            if not math.isfinite(threshold):
                raise InputError(f"threshold is {threshold}; it has to be finite")
            calibration.image.set_value(threshold)

    def detect(
        self, pictures: Sequence[PreparedImage], batch_size: int = 16, category: str = ""
    ) -> Iterator[Detection]:
        """Yields a Detection for each image that `vtadl.data.inputs` has prepared."""
        batch_size = 1 if self.module.resize_mode == "tiles" else batch_size  # pictures may differ in size
        for start in range(0, len(pictures), batch_size):
            yield from self._detect_batch(pictures[start : start + batch_size], category)

    @torch.inference_mode()
    @full_precision()
    def _detect_batch(self, batch: Sequence[PreparedImage], category: str) -> list[Detection]:
        calibration = self.module.calibration.of(category)
        scores = self.module(torch.stack([picture.pixels for picture in batch]).to(self.device))
        return [
            self._decide(calibration, Scores(*(part[index : index + 1] for part in scores)), picture.size)
            for index, picture in enumerate(batch)
        ]

    def _decide(self, calibration: Calibration, scores: Scores, size: tuple[int, int]) -> Detection:
        maps = restore_map_size(scores.map, size, self.module.resize_mode, calibration.pixel.median.item())
        decisions = decide(calibration, Scores(scores.image, maps), size)
        score, normalised, anomalous, *laid_over = (part[0].cpu() for part in decisions)
        map_, normalised_map, mask = laid_over
        return Detection(
            score.item(),
            normalised.item(),
            bool(anomalous.item()),
            map_.float().numpy(),
            normalised_map.float().numpy(),
            mask.numpy(),
        )


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
