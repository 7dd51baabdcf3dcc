"""Thresholds that normal images seldom exceed, and decisions by them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision
from vtadl.common.ranges import LARGEST
from vtadl.data import Sample, categories_of
from vtadl.errors import InputError
from vtadl.scoring.brightness import BrightnessRange
from vtadl.scoring.scorer import Scores

_SAMPLED_SIDE = 64  # largest number of rows and of columns at which a map is sampled


class Threshold(FullPrecisionModule):
    """The value that a new normal score exceeds with a chosen probability; the checkpoint keeps it.

    The threshold is the k-th smallest of n normal scores, k = n + 1 - floor(rate * (n + 1)). A further score
    from the same distribution exceeds it with a probability of 1 - k / (n + 1) at most (Vovk et al.,
    "Algorithmic Learning in a Random World", 2005). If n < 1 / rate - 1, there are too few scores: the
    threshold is then the largest of them, and `false_alarm_rate` is 1 / (n + 1), which exceeds the requested
    rate.
    """

    @full_precision()
    def __init__(self) -> None:
        super().__init__()
        self.value: Tensor
        self.median: Tensor
        self.count: Tensor
        self.false_alarm_rate: Tensor
        for name in ("value", "median", "false_alarm_rate"):
            self.register_buffer(name, torch.tensor(math.nan))
        self.register_buffer("count", torch.tensor(0))

    def fit(self, scores: Tensor, rate: float) -> None:
        """Fits the threshold to normal scores [n] and the requested false-alarm rate."""
        count = len(scores)
        rank = min(count, count + 1 - math.floor(rate * (count + 1) + 1e-9))
        self.value.copy_(scores.kthvalue(rank).values)
        self.median.copy_(scores.median())
        self.count.fill_(count)
        self.false_alarm_rate.fill_(1 - rank / (count + 1))

    def normalise(self, scores: Tensor) -> Tensor:
        """Maps scores to [0, 1] in the same order, the threshold to 0.5 and the normal median to 0.25."""
        spread = (self.value - self.median).clamp(min=1e-6)
        distance = (scores - self.value) / spread
        return 0.5 + 0.5 * distance / (1 + distance.abs())


class Calibration(FullPrecisionModule):
    """The thresholds of images and of pixels, and the brightness of the training images.

    With several categories, each has a calibration of its own besides that of all images.
    """

    def __init__(self, image_rate: float, pixel_rate: float) -> None:
        super().__init__()
        self.image_rate = image_rate
        self.pixel_rate = pixel_rate
        self.brightness = BrightnessRange()
        self.image = Threshold()
        self.pixel = Threshold()
        self.categories: tuple[str, ...] = ()  # names, if there are several
        self.by_category = nn.ModuleList()

    def set_categories(self, names: Sequence[str]) -> None:
        """Gives each of several categories its own calibration; one category needs none."""
        self.categories = tuple(names) if len(names) > 1 else ()
        self.by_category = nn.ModuleList(
            Calibration(self.image_rate, self.pixel_rate) for _ in self.categories
        ).to(self.image.value.device)

    def of(self, category: str) -> "Calibration":
        """Returns the calibration of a category, which may have any name if there is only one.

        Raises:
            InputError: If there are several, and none has this name.
        """
        if not self.categories:
            return self
        if category not in self.categories:
            wanted = f"none is called {category}" if category else "name the one that the images show"
            raise InputError(f"the detector has the categories {', '.join(self.categories)}: {wanted}")
        calibration = self.by_category[self.categories.index(category)]
        assert isinstance(calibration, Calibration)
        return calibration

    @torch.no_grad()
    @in_full_precision
    def fit(self, score: Callable[[Tensor], Scores], batches: Iterable[Sample]) -> None:
        """Fits the thresholds to batches of normal images that were held out from training.

        Raises:
            InputError: If a category has no image.
        """
        scores: list[Tensor] = []
        pixels: list[Tensor] = []
        shown: list[str] = []
        for batch in batches:
            batch_scores = score(batch["image"].to(self.image.value.device))
            scores += batch_scores.image
            pixels += [sample_pixels(map_[None]) for map_ in batch_scores.map]
            shown += categories_of(batch)
        self._fit(scores, pixels)
        for name in self.categories:
            own = [index for index, category in enumerate(shown) if category == name]
            if not own:
                raise InputError(f"there is no validation image of {name}, so that it has no threshold")
            self.of(name)._fit([scores[index] for index in own], [pixels[index] for index in own])

    def _fit(self, scores: Sequence[Tensor], pixels: Sequence[Tensor]) -> None:
        self.image.fit(torch.stack(list(scores)), self.image_rate)
        self.pixel.fit(torch.cat(list(pixels)), self.pixel_rate)

    def observe(self, batches: Iterable[Sample]) -> Iterator[Sample]:
        """Yields batches of training images, and notes their brightness."""
        for batch in batches:
            categories = categories_of(batch)
            for name in self.categories or ("",):
                own = [not self.categories or category == name for category in categories]
                if any(own):
                    self.of(name).brightness.update(batch["image"][torch.tensor(own)])
            yield batch

    def sentences(self) -> list[str]:
        """States what the threshold of images promises for each category."""
        if not self.categories:
            return [self.sentence()]
        return [self.of(name).sentence(f"threshold of {name}") for name in self.categories]

    def sentence(self, name: str = "threshold") -> str:
        """States the false-alarm rate of the threshold of images, and how many images a lower one needs."""
        count, rate = int(self.image.count), self.image.false_alarm_rate.item()
        promise = f"{name}: a new normal image exceeds it with a probability of {rate:.1%} at most"
        if rate <= self.image_rate + 1e-6:
            return promise
        wanted = math.ceil(min(1 / self.image_rate, LARGEST) - 1e-9) - 1
        lack = f"{self.image_rate:.1%} would take {wanted} validation images, of which there are {count}"
        return f"{promise}; {lack}"

    def summary(self) -> dict[str, dict[str, float]]:
        """Both thresholds with their false-alarm rates, as plain numbers."""
        return {
            kind: {name: buffer.item() for name, buffer in threshold.named_buffers()}
            for kind, threshold in (("image", self.image), ("pixel", self.pixel))
        }


def sample_pixels(maps: Tensor) -> Tensor:
    """Samples maps [B, 1, H, W] on a regular grid, because neighbours in a smooth map are redundant."""
    rows, columns = (min(size, _SAMPLED_SIDE) for size in maps.shape[-2:])
    return F.interpolate(maps, (rows, columns), mode="nearest-exact").flatten()


class Decisions(NamedTuple):
    """Scores of a batch, and the decisions by the thresholds; maps are as large as the images."""

    score: Tensor  # [B]
    normalised_score: Tensor  # [B] in [0, 1], 0.5 at the threshold
    anomalous: Tensor  # [B] bool
    map: Tensor  # [B, H, W]
    normalised_map: Tensor  # [B, H, W] in [0, 1], 0.5 at the threshold
    mask: Tensor  # [B, H, W] bool


@in_full_precision
def decide(calibration: Calibration, scores: Scores, size: tuple[int, int]) -> Decisions:
    """Compares scores with the thresholds; maps are resized to the images' `size` (height, width)."""
    maps = F.interpolate(scores.map, size, mode="bilinear")[:, 0]
    normalised = calibration.image.normalise(scores.image)
    normalised_map = calibration.pixel.normalise(maps)
    return Decisions(scores.image, normalised, normalised > 0.5, maps, normalised_map, normalised_map > 0.5)
