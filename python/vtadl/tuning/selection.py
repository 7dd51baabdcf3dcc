"""The choice of a dictionary's experts, and of their weights, from normal images alone."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.common.progress import progress
from vtadl.density import Descriptor, Dictionary, ExpertSettings
from vtadl.images.smoothing import smooth
from vtadl.metrics.separation import auroc, single_region_aupro
from vtadl.scoring.settings import ScoringSettings
from vtadl.scoring.statistics import top_k_mean
from vtadl.synthesis.anomalies import make_pseudo_anomalies
from vtadl.synthesis.takes import estimate_takes, vary_takes
from vtadl.tuning.ensemble import select_bagged_ensemble, select_ensemble

_MAX_HELD_OUT = 64  # images
_TAKES = 96  # of held-out images, each with its own pseudo-anomaly
_TAKES_WITH_BACKBONE = 48  # its features take long
_MAX_TAKES_PER_IMAGE = 4
_MAX_SHARED_WINDOWS = 40_000  # that shared mixtures are fitted to while experts are compared
_PRIOR = 4  # held-out images as evidence for equal weights, which few images cannot improve on
_MIN_WEIGHT = 0.05  # experts of less weight would take time and change little
_MAP_SIDE = 64  # pixels of the maps by which experts are compared

log = logging.getLogger(__name__)
Coefficients = Mapping[Descriptor, Tensor]  # PCA coefficients [N, P, D] by descriptor


class Described(NamedTuple):
    """Normal images, and pictures of other subjects, as PCA coefficients by descriptor."""

    normal: Coefficients  # turned images follow the N given ones
    pictures: Coefficients  # of the descriptors for which an expert needs a background
    origins: Tensor  # the index of the given image that each normal image was made of


class Choice(NamedTuple):
    """An expert that was chosen, with its weight and the moments of its scores of normal windows."""

    settings: ExpertSettings
    weight: float = 1.0
    mean: float = 0.0
    deviation: float = 1.0


class Comparison:
    """Held-out normal images, and pseudo-anomalies made of them, by which experts are compared."""

    def __init__(
        self,
        dictionary: Dictionary,
        images: Tensor,
        described: Described,
        scoring: ScoringSettings,
        seed: int = 0,
    ) -> None:
        """Splits normal images [N, C, H, W] into those to fit experts to and those to hold out.

        Args:
            dictionary: With fitted projections.
            images: The normal images.
            described: Their coefficients, and those of other pictures.
            scoring: How scores of windows become those of images and pixels.
            seed: Seed of the split, of the takes and of the pseudo-anomalies.
        """
        self.dictionary, self.scoring, self.seed = dictionary, scoring, seed
        self.held_out, kept = hold_out(len(images), seed)
        self.num_unseen = len(self.held_out) if len(images) > 1 else 0  # a single image is fitted to as well
        fitted = torch.isin(described.origins, kept)
        self.fitted = {name: values[fitted] for name, values in described.normal.items()}
        self.pictures = described.pictures
        takes = _TAKES_WITH_BACKBONE if "backbone" in described.normal else _TAKES
        self.normal = take_again(images, self.held_out, takes, seed)
        anomalies = make_pseudo_anomalies(self.normal, seed)
        self.masks = F.adaptive_max_pool2d(anomalies.masks, _map_size(self.normal))
        self.coefficients = {
            name: [dictionary.pca_coefficients(x, name) for x in (self.normal, anomalies.images)]
            for name in described.normal
        }

    def scores(self, settings: ExpertSettings) -> Tensor:
        """Scores [2, M, rows, columns] of the normal takes and of the anomalies, after a short fit."""
        name = settings.descriptor
        expert = self.dictionary.fit_expert(
            self.fitted[name],
            settings,
            seed=self.seed,
            steps=5,
            max_windows=_MAX_SHARED_WINDOWS,
            background=self.pictures.get(name),
        )
        with torch.no_grad():
            return torch.stack(
                [self.dictionary.on_grid(expert.scores(x), name) for x in self.coefficients[name]]
            )

    def separation(self, scores: Tensor, takes: Tensor | None = None) -> float:
        """Mean of the AUROC of images and the AUPRO of regions, from scores [2, M, rows, columns].

        `takes` are the indices of the M takes, if these are not all.
        """
        masks = self.masks if takes is None else self.masks[takes.to(self.masks.device)]
        images = [top_k_mean(x.flatten(1), self.scoring.top_patches) for x in scores]
        sigma = self.scoring.smoothing * masks.shape[-1] / self.normal.shape[-1]
        maps = [smooth(F.interpolate(x[:, None], masks.shape[-2:], mode="bilinear"), sigma) for x in scores]
        return (auroc(images[0], images[1]) + single_region_aupro(maps[0], maps[1], masks)) / 2


def choose_experts(
    comparison: Comparison, candidates: Sequence[ExpertSettings], single: bool = False
) -> list[Choice]:
    """Chooses among experts by how well their sum separates pseudo-anomalies from normal images.

    Unless only one is chosen, the weights are shrunk to equal ones as if by the evidence of four more
    held-out images.

    Args:
        comparison: The images.
        candidates: The experts, two or more.
        single: Whether only one may be chosen.
    """
    scores = [comparison.scores(settings) for settings in progress(candidates, "comparing experts")]
    standardised, moments = standardise(scores)
    if single:
        weights = select_ensemble(standardised, comparison.separation, rounds=1)
    else:
        weights = select_bagged_ensemble(standardised, comparison.separation)
        evidence = comparison.num_unseen / (comparison.num_unseen + _PRIOR)
        weights = torch.full_like(weights, 1 / len(weights)).lerp(weights, evidence)
    for settings, weight, own in zip(candidates, weights.tolist(), standardised, strict=True):
        log.info("%s: separation %.4f, weight %.2f", settings, comparison.separation(own), weight)
    return [
        Choice(settings, weight, *own)
        for settings, weight, own in zip(candidates, weights.tolist(), moments, strict=True)
        if weight >= _MIN_WEIGHT
    ]


def standardise(scores: Sequence[Tensor]) -> tuple[Tensor, list[tuple[float, float]]]:
    """Counts the scores [2, M, ...] of each expert in standard deviations of those of the normal takes.

    Returns:
        The scores [E, 2, M, ...], and the mean and the standard deviation of each expert.
    """
    moments = [(own[0].mean().item(), max(own[0].std().item(), 1e-6)) for own in scores]
    return torch.stack([(own - m) / s for own, (m, s) in zip(scores, moments, strict=True)]), moments


def hold_out(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The indices of images to hold out, a quarter, and of those to fit to; a single one is in both."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held_out = max(1, min(_MAX_HELD_OUT, count // 4))
    return order[:held_out], order[held_out:] if count > 1 else order


def take_again(images: Tensor, indices: Tensor, takes: int, seed: int) -> Tensor:
    """New takes of the images of these indices, about `takes` in all, as later exposures would be."""
    chosen = indices[:takes]
    copies = min(_MAX_TAKES_PER_IMAGE, max(1, round(takes / len(chosen))))
    return vary_takes(images[chosen.to(images.device)].repeat(copies, 1, 1, 1), estimate_takes(images), seed)


def _map_size(images: Tensor) -> tuple[int, int]:
    height, width = (min(side, _MAP_SIDE) for side in images.shape[-2:])
    return height, width
