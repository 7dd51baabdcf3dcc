"""Anomaly scores of images and of pixels, from the predictions of the network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision
from vtadl.images.smoothing import smooth
from vtadl.model import Prediction
from vtadl.scoring.settings import TERMS, ScoringSettings, Term
from vtadl.scoring.statistics import RunningMoments, top_k_mean
from vtadl_ext import ssim


class Scores(NamedTuple):
    """Anomaly scores of a batch; larger is more anomalous."""

    image: Tensor  # [B]
    map: Tensor  # [B, 1, H, W]


class TermValues(NamedTuple):
    """The terms of some images, before they are standardised and weighted."""

    nll: Tensor  # [M, rows, columns]
    differences: Tensor  # [M, 2]: squared error and dissimilarity of the reconstruction


class AnomalyScorer(FullPrecisionModule):
    """Averages terms of different units, each in standard deviations from held-out normal images.

    The NLL of an image is the mean of the largest NLLs of its patches. If scores are `normalised`, the NLL of
    each position is standardised by that of normal images at the same position, which suits objects that are
    always aligned.
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
        self._set_terms(settings.terms or TERMS[:1])

    def reset(self) -> None:
        """Forgets all images."""
        self.pixel_moments.reset()
        self._normal = []

    @in_full_precision
    def update(self, images: Tensor, prediction: Prediction, patch_scores: Tensor) -> None:
        """Adds a batch of normal images."""
        maps = self._pixel_terms(images, prediction.reconstruction, patch_scores)
        differences = self._image_differences(images, prediction.reconstruction)
        self._normal.append(TermValues(patch_scores, differences))
        self.pixel_moments.update(maps)

    @in_full_precision
    def finish(self) -> None:
        """Fits the moments to the images that were added."""
        normal = TermValues(*map(torch.cat, zip(*self._normal, strict=True)))
        self._normal = []
        self.patch_moments.reset()
        self.patch_moments.update(normal.nll)
        self.term_moments.reset()
        self.term_moments.update(self._image_terms(*normal))

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
