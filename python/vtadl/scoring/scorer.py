"""Anomaly scores of images and of pixels, from the predictions of the network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision
from vtadl.images.smoothing import smooth
from vtadl.metrics.separation import auroc
from vtadl.model import Prediction
from vtadl.scoring.settings import TERMS, ScoringSettings, Term
from vtadl.scoring.statistics import RunningMoments, top_k_mean
from vtadl_ext import ssim

CANDIDATES: tuple[tuple[Term, ...], ...] = (("nll",), ("nll", "dissimilarity"), TERMS)
MIN_IMAGES_TO_NORMALISE = 16  # held-out images; the moments of fewer say little about a single position
_MIN_IMAGES_TO_CHOOSE = 4  # held-out images
_MIN_GAIN = 0.05  # in separation, to add a term; smaller gains may hold for pseudo-anomalies alone
_MIN_CHANGED = 0.25  # of a position's pixels, which make it anomalous


class Scores(NamedTuple):
    """Anomaly scores of a batch; larger is more anomalous."""

    image: Tensor  # [B]
    map: Tensor  # [B, 1, H, W]


class TermValues(NamedTuple):
    """The terms of some images, before they are standardised and weighted."""

    nll: Tensor  # [M, rows, columns]
    differences: Tensor  # [M, 2]: squared error and dissimilarity of the reconstruction
    positions: Tensor  # [M, 3, rows, columns]: the terms of pixels, smoothed and averaged over each position
    anomalous: Tensor  # [M, rows, columns]: whether a position is anomalous


class AnomalyScorer(FullPrecisionModule):
    """Averages terms of different units, each in standard deviations from held-out normal images.

    The NLL of an image is the mean of the largest NLLs of its patches. If scores are `normalised`, the NLL of
    each position is standardised by that of normal images at the same position, which suits objects that are
    always aligned; by default this depends on whether the dictionary found them `aligned`. By default the
    terms are those that best separate held-out images from pseudo-anomalies made of them, in images and in
    maps; each further term has to improve the separation.
    """

    @full_precision()
    def __init__(
        self,
        grid: tuple[int, int],
        image_size: tuple[int, int],
        settings: ScoringSettings = ScoringSettings(),
    ) -> None:
        super().__init__()
        self.grid = grid
        self.given_terms = None if settings.terms is None else tuple(settings.terms)
        self.given_normalised = settings.normalised
        self.top_patches = settings.top_patches
        self.smoothing = settings.smoothing
        self.patch_moments = RunningMoments(*grid)
        self.term_moments = RunningMoments(len(TERMS))
        self.pixel_moments = RunningMoments(len(TERMS), *image_size)
        self.weights: Tensor
        self.normalised: Tensor
        self.reconstructs: bool  # whether a term of the reconstruction has a weight
        self.register_buffer("weights", torch.empty(len(TERMS)))
        self.register_buffer("normalised", torch.tensor(bool(settings.normalised)))
        self._normal: list[TermValues] = []
        self._anomalous: list[TermValues] = []
        self._aligned = False
        self._set_terms(self.given_terms or CANDIDATES[0])

    @property
    def chooses(self) -> bool:
        """Whether the terms are chosen from pseudo-anomalies."""
        return self.given_terms is None

    def reset(self, aligned: bool = False) -> None:
        """Forgets all images; `aligned` tells whether the next ones show objects that are always aligned."""
        self._aligned = aligned
        self.pixel_moments.reset()
        self._normal, self._anomalous = [], []

    @in_full_precision
    def update(self, images: Tensor, prediction: Prediction, patch_scores: Tensor) -> None:
        """Adds a batch of normal images."""
        maps = self._pixel_terms(images, prediction.reconstruction, patch_scores)
        anomalous = torch.zeros_like(patch_scores, dtype=torch.bool)
        self._normal.append(self._term_values(images, prediction, patch_scores, maps, anomalous))
        self.pixel_moments.update(maps)

    @in_full_precision
    def update_anomalous(
        self, images: Tensor, prediction: Prediction, patch_scores: Tensor, masks: Tensor
    ) -> None:
        """Adds a batch of pseudo-anomalies with masks [B, 1, H, W]."""
        maps = self._pixel_terms(images, prediction.reconstruction, patch_scores)
        anomalous = F.adaptive_avg_pool2d(masks, self.grid)[:, 0] > _MIN_CHANGED
        self._anomalous.append(self._term_values(images, prediction, patch_scores, maps, anomalous))

    @in_full_precision
    def finish(self) -> float | None:
        """Chooses the terms and fits the moments; returns the separation of any pseudo-anomalies."""
        normal = _join(self._normal)
        enough = self._aligned and len(normal.nll) >= MIN_IMAGES_TO_NORMALISE
        self.normalised.fill_(enough if self.given_normalised is None else self.given_normalised)
        anomalous = _join(self._anomalous) if self._anomalous else None
        self._normal, self._anomalous = [], []
        separation = None
        if anomalous is not None and len(normal.nll) >= _MIN_IMAGES_TO_CHOOSE:
            separation = self._choose_terms(normal, anomalous)
        self._fit_moments(normal)
        return separation

    @in_full_precision
    def forward(
        self, images: Tensor, prediction: Prediction, patch_scores: Tensor, leave_one_out: bool = False
    ) -> Scores:
        """Scores a batch of images [B, 3, H, W], given the scores of their patches [B, rows, columns].

        With `leave_one_out`, the images are those of `update`, and each is scored as if `update` had been
        given the others alone.
        """
        differences = self._image_differences(images, prediction.reconstruction)
        terms = self._image_terms(patch_scores, differences, leave_one_out)
        maps = self._pixel_terms(images, prediction.reconstruction, patch_scores)
        return Scores(
            self.term_moments.standardise(terms) @ self.weights,
            self._combine(maps, self.pixel_moments, leave_one_out),
        )

    def _term_values(
        self, images: Tensor, prediction: Prediction, patch_scores: Tensor, maps: Tensor, anomalous: Tensor
    ) -> TermValues:
        differences = self._image_differences(images, prediction.reconstruction)
        return TermValues(patch_scores, differences, F.adaptive_avg_pool2d(maps, self.grid), anomalous)

    def _choose_terms(self, normal: TermValues, anomalous: TermValues) -> float:
        """Takes the best terms; each half of the images is scored with the moments of the other half."""
        options = [self.given_terms] if self.given_terms else CANDIDATES
        halves = (slice(0, None, 2), slice(1, None, 2))
        values = []
        for terms in options:
            self._set_terms(terms)
            parts = [
                (_part(normal, a), _part(normal, b), _part(anomalous, b)) for a, b in (halves, halves[::-1])
            ]
            values.append(sum(self._separation(*part) for part in parts) / 2)
        best = max(range(len(options)), key=lambda index: values[index] - _MIN_GAIN * len(options[index]))
        self._set_terms(options[best])
        return values[best]

    def _separation(self, reference: TermValues, normal: TermValues, anomalous: TermValues) -> float:
        """Mean of the AUROCs of images and of positions, scored with the moments of reference images."""
        self._fit_moments(reference)
        scores = [
            self.term_moments.standardise(self._image_terms(part.nll, part.differences)) @ self.weights
            for part in (normal, anomalous)
        ]
        moments = RunningMoments.of(reference.positions)
        positions = self._combine(torch.cat([normal.positions, anomalous.positions]), moments)[:, 0]
        changed = torch.cat([normal.anomalous, anomalous.anomalous])
        return (auroc(*scores) + auroc(positions[~changed], positions[changed])) / 2

    def _fit_moments(self, normal: TermValues) -> None:
        for moments, values in (
            (self.patch_moments, lambda: normal.nll),
            (self.term_moments, lambda: self._image_terms(normal.nll, normal.differences)),
        ):
            moments.reset()
            moments.update(values())

    def _combine(self, maps: Tensor, moments: RunningMoments, leave_one_out: bool = False) -> Tensor:
        """Combines the terms of pixels [B, 3, H, W] into one map [B, 1, H, W]."""
        standardised = torch.where(
            self.normalised,
            moments.standardise_positions(maps, 2, leave_one_out),
            moments.standardise(maps, pooled=2),
        )
        return (standardised * self.weights.view(-1, 1, 1)).sum(1, keepdim=True)

    def _image_terms(self, patch_scores: Tensor, differences: Tensor, leave_one_out: bool = False) -> Tensor:
        """The terms of images [B, 3], not yet standardised."""
        standardised = self.patch_moments.standardise_positions(patch_scores, 2, leave_one_out)
        patches = torch.where(self.normalised, standardised, patch_scores)
        nll = top_k_mean(patches.flatten(1), self.top_patches)
        return torch.cat([nll[:, None], differences], dim=1)

    @staticmethod
    def _image_differences(images: Tensor, reconstruction: Tensor | None) -> Tensor:
        """Mean squared error and structural dissimilarity [B, 2]; 0 without a reconstruction."""
        if reconstruction is None:
            return images.new_zeros(images.shape[0], 2)
        mse = (images - reconstruction).square().mean((1, 2, 3))
        return torch.stack([mse, 1 - ssim(images, reconstruction, reduction="none")], dim=-1)

    def _pixel_terms(self, images: Tensor, reconstruction: Tensor | None, patch_scores: Tensor) -> Tensor:
        """The smoothed terms of pixels [B, 3, H, W]; those of a reconstruction are 0 without one."""
        nll = F.interpolate(patch_scores[:, None], images.shape[-2:], mode="bilinear")
        if reconstruction is None:
            return F.pad(smooth(nll, self.smoothing), (0, 0, 0, 0, 0, 2))
        error = (images - reconstruction).square().mean(1, keepdim=True)
        dissimilarity = 1 - ssim(images, reconstruction, padding="reflect", reduction="map")
        return smooth(torch.cat([nll, error, dissimilarity.mean(1, keepdim=True)], dim=1), self.smoothing)

    def _set_terms(self, terms: Sequence[Term]) -> None:
        """Gives these terms equal weights, and the others none."""
        self.weights.copy_(torch.tensor([float(term in terms) for term in TERMS]) / len(terms))
        self._update_reconstructs()

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._update_reconstructs()

    def _update_reconstructs(self) -> None:
        """Notes in a Python value, which an exported program can read, whether a reconstruction is used."""
        self.reconstructs = bool(self.weights[1:].any())


def _join(parts: Sequence[TermValues]) -> TermValues:
    return TermValues(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _part(values: TermValues, which: slice) -> TermValues:
    return TermValues(*(value[which] for value in values))
