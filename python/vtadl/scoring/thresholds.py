"""Thresholds that normal images seldom exceed, and decisions by them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.common.binomial import CONFIDENCE, allowed_events, needed_trials, upper_bound
from vtadl.common.data_sized import DataSizedModule
from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision
from vtadl.data import Sample, categories_of
from vtadl.errors import InputError
from vtadl.scoring.brightness import BrightnessRange
from vtadl.scoring.scorer import Scores

_SAMPLED_SIDE = 64  # largest number of rows and of columns at which a map is sampled


class Threshold(DataSizedModule):
    """The value that new normal images seldom exceed, and the scores that it comes from, for checkpoints.

    The threshold is the k-th smallest of n normal scores: the smallest one of which it is known with a
    confidence of 90 % that at most the requested fraction of further scores from the same distribution
    exceeds it. The n - k larger scores bound this fraction as in Clopper and Pearson (1934), because the
    probability of exceeding the k-th smallest of n scores is Beta(n - k + 1, k) distributed (Wilks, 1941). If
    n is too small for the rate, the threshold is the largest score, and `false_alarm_rate` says what holds.
    """

    @full_precision()
    def __init__(self) -> None:
        super().__init__()
        self.value: Tensor
        self.median: Tensor
        self.count: Tensor
        self.false_alarm_rate: Tensor  # the bound, which holds with a confidence of 90 %
        self.scores: Tensor  # [n], ascending; none in checkpoints of earlier versions
        for name in ("value", "median", "false_alarm_rate"):
            self.register_buffer(name, torch.tensor(math.nan))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("scores", torch.zeros(0))

    def fit(self, scores: Tensor, rate: float) -> None:
        """Fits the threshold to normal scores [n] and the requested false-alarm rate."""
        self.replace("scores", scores.sort().values)
        self.count.fill_(len(scores))
        self.median.copy_(scores.median())
        self.set_rate(rate)

    def set_rate(self, rate: float) -> None:
        """Moves the threshold to where at most `rate` of new normal images exceed it, as far as is known.

        Raises:
            InputError: If the scores of normal images are unknown.
        """
        if not len(self.scores):
            raise InputError(
                "the checkpoint is of an earlier version, which kept no scores of normal images: give a "
                "threshold, or take the thresholds anew by vtadl calibrate"
            )
        self.value.copy_(self.scores[len(self.scores) - 1 - allowed_events(len(self.scores), rate)])
        self._update_rate()

    def set_value(self, value: float) -> None:
        """Moves the threshold to a value, and bounds its false-alarm rate; by 1 if no scores are known."""
        self.value.fill_(value)
        self._update_rate()

    def _update_rate(self) -> None:
        self.false_alarm_rate.fill_(self._bound())

    def _bound(self) -> float:
        """Bounds the fraction of further scores that exceed the threshold."""
        return upper_bound(int((self.scores > self.value).sum()), len(self.scores))

    def normalise(self, scores: Tensor, value: Tensor | None = None) -> Tensor:
        """Maps scores to [0, 1] in the same order, the threshold to 0.5 and the normal median to 0.25.

        Args:
            scores: The scores.
            value: Another threshold than that of the checkpoint.
        """
        value = self.value if value is None else value
        spread = (value - self.median).abs().clamp(min=1e-6)
        distance = (scores - value) / spread
        return 0.5 + 0.5 * distance / (1 + distance.abs())

    def summary(self) -> dict[str, float]:
        """The threshold and what is known about it, as plain numbers."""
        return {name: buffer.item() for name, buffer in self.named_buffers() if not buffer.dim()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        if f"{prefix}scores" not in state_dict:
            self._translate_old_state(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _translate_old_state(self, state: dict[str, Any], prefix: str) -> None:
        """Bounds the rate of a threshold of an earlier version, which stated 1 - k / (n + 1) alone."""
        state[f"{prefix}scores"] = self.scores.new_zeros(0)
        count, mean = (state.get(f"{prefix}{name}") for name in ("count", "false_alarm_rate"))
        if count is not None and mean is not None and int(count):
            exceeding = round(mean.item() * (int(count) + 1)) - 1
            state[f"{prefix}false_alarm_rate"] = mean.new_tensor(upper_bound(max(0, exceeding), int(count)))


class PixelThreshold(Threshold):
    """The value that a requested fraction of the pixels of normal images exceeds.

    Pixels of an image are not independent: `image_false_alarm_rate` bounds, with a confidence of 90 %, the
    fraction of normal images of which any pixel exceeds the threshold. `scores` are the largest ones of each
    image.
    """

    @full_precision()
    def __init__(self) -> None:
        super().__init__()
        self.image_false_alarm_rate: Tensor
        self.register_buffer("image_false_alarm_rate", torch.tensor(math.nan))

    def fit_pixels(self, pixels: Tensor, peaks: Tensor, rate: float) -> None:
        """Fits the threshold to scores of normal pixels [n] and the largest score of each image [m]."""
        count = len(pixels)
        rank = min(count, count + 1 - math.floor(rate * (count + 1) + 1e-9))
        self.count.fill_(count)
        self.median.copy_(pixels.median())
        self.value.copy_(pixels.kthvalue(rank).values)
        self.false_alarm_rate.fill_(1 - rank / (count + 1))
        self.replace("scores", peaks.sort().values)
        self._update_rate()

    def _update_rate(self) -> None:
        self.image_false_alarm_rate.fill_(self._bound())

    def _translate_old_state(self, state: dict[str, Any], prefix: str) -> None:
        """Says that nothing is known about images, in the state of an earlier version."""
        state[f"{prefix}scores"] = self.scores.new_zeros(0)
        state[f"{prefix}image_false_alarm_rate"] = torch.tensor(1.0)


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
        self.pixel = PixelThreshold()
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
        device = self.image.value.device
        self.fit_scores((score(batch["image"].to(device)), categories_of(batch)) for batch in batches)

    @torch.no_grad()
    def fit_scores(self, scored: Iterable[tuple[Scores, Sequence[str]]]) -> None:
        """Fits the thresholds to the scores of batches of normal images, and the categories that these show.

        Raises:
            InputError: If a category has no image.
        """
        normal = NormalScores([], [], [])
        shown: list[str] = []
        for scores, categories in scored:
            normal.add(scores)
            shown += categories
        self._fit(normal)
        for name in self.categories:
            own = [index for index, category in enumerate(shown) if category == name]
            if not own:
                raise InputError(f"there is no validation image of {name}, so that it has no threshold")
            self.of(name)._fit(normal.of(own))

    def _fit(self, normal: "NormalScores") -> None:
        self.image.fit(torch.stack(normal.images), self.image_rate)
        self.pixel.fit_pixels(torch.cat(normal.pixels), torch.stack(normal.peaks), self.pixel_rate)

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
        """States what the thresholds of images and of pixels promise for each category."""
        named = [(self.of(name), f" of {name}") for name in self.categories] or [(self, "")]
        return [
            sentence
            for own, name in named
            for sentence in (own.sentence(f"threshold{name}"), own.pixel_sentence(f"pixel threshold{name}"))
            if sentence
        ]

    def sentence(self, name: str = "threshold") -> str:
        """Bounds the false-alarm rate of the threshold of images; says how many images a lower one needs."""
        count, rate = int(self.image.count), self.image.false_alarm_rate.item()
        promise = (
            f"{name}: with {CONFIDENCE:.0%} confidence, at most {rate:.1%} of new normal images exceed it"
        )
        if rate <= self.image_rate + 1e-6:
            return promise
        wanted = needed_trials(self.image_rate)
        lack = f"{self.image_rate:.1%} would take {wanted} normal images, of which there are {count}"
        return f"{promise}; {lack}"

    def pixel_sentence(self, name: str = "pixel threshold") -> str:
        """Bounds the fraction of normal images of which a pixel exceeds its threshold; empty if unknown."""
        if not len(self.pixel.scores):
            return ""
        rate = self.pixel.image_false_alarm_rate.item()
        return (
            f"{name}: with {CONFIDENCE:.0%} confidence, at most {rate:.1%} of new normal images have a pixel "
            f"above it ({self.pixel.false_alarm_rate.item():.2%} of all their pixels are)"
        )

    def summary(self) -> dict[str, dict[str, float]]:
        """Both thresholds with their false-alarm rates, as plain numbers."""
        return {"image": self.image.summary(), "pixel": self.pixel.summary()}


class NormalScores(NamedTuple):
    """The scores of normal images to which thresholds are fitted."""

    images: list[Tensor]  # scalars
    pixels: list[Tensor]  # of each image, sampled
    peaks: list[Tensor]  # of each image, the largest score of its pixels

    def add(self, scores: Scores) -> None:
        """Adds a batch."""
        self.images.extend(scores.image)
        self.pixels.extend(sample_pixels(map_[None]) for map_ in scores.map)
        self.peaks.extend(scores.map.flatten(1).amax(1))

    def of(self, indices: Sequence[int]) -> "NormalScores":
        """The scores of the images of these indices."""
        return NormalScores(*([part[index] for index in indices] for part in self))


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
def decide(
    calibration: Calibration,
    scores: Scores,
    size: tuple[int, int],
    threshold: Tensor | None = None,
    pixel_threshold: Tensor | None = None,
) -> Decisions:
    """Compares scores with thresholds, those of the calibration unless others are given.

    Maps are resized to the images' `size` (height, width).
    """
    maps = F.interpolate(scores.map, size, mode="bilinear")[:, 0]
    normalised = calibration.image.normalise(scores.image, threshold)
    normalised_map = calibration.pixel.normalise(maps, pixel_threshold)
    return Decisions(scores.image, normalised, normalised > 0.5, maps, normalised_map, normalised_map > 0.5)
