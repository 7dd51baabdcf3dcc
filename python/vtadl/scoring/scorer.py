"""From a prediction to anomaly scores: one number per image and one per pixel."""

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
from vtadl.scoring.statistics import Moments, largest_mean
from vtadl_ext import ssim

CHOICES: tuple[tuple[Term, ...], ...] = (("nll",), ("nll", "dissimilarity"), TERMS)
_ENOUGH_TO_CHOOSE = 4  # held-out images
ENOUGH_TO_NORMALISE = 16  # held-out images; the moments of fewer say little about a single place
_WORTHWHILE = 0.05  # gain in separation for which one more term is taken; less may be of made anomalies alone


class Scores(NamedTuple):
    """Anomaly scores of a batch; larger is more anomalous."""

    image: Tensor  # [B]
    map: Tensor  # [B, 1, H, W]


class Examples(NamedTuple):
    """What is known of some images before they are scored."""

    nll: Tensor  # [M, rows, columns]
    differences: Tensor  # [M, 2]: squared error and dissimilarity of the reconstruction
    places: Tensor  # [M, 3, rows, columns]: the terms of pixels, smoothed and averaged over each place
    changed: Tensor  # [M, rows, columns]: whether a place is anomalous


class AnomalyScorer(FullPrecisionModule):
    """Averages terms of different units, each in standard deviations from held-out normal images.

    The NLL of an image is the mean of the largest ones of its patches. Where `normalised`, each place
    counts by how unusual its NLL is for normal images *there*, which is right for objects that always
    lie alike; unless it is given, that is so where the dictionary found them `aligned`. Terms that are
    not given are those that best tell anomalies made from held-out images, in images and in maps; each
    further term has to gain something.
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
        self.fixed_terms = None if settings.terms is None else tuple(settings.terms)
        self.fixed_normalised = settings.normalised
        self.top_patches = settings.top_patches
        self.smoothing = settings.smoothing
        self.patch_moments = Moments(*grid)
        self.term_moments = Moments(len(TERMS))
        self.pixel_moments = Moments(len(TERMS), *image_size)
        self.weights: Tensor
        self.normalised: Tensor
        self.reconstructs: bool  # whether terms of the reconstruction count
        self.register_buffer("weights", torch.empty(len(TERMS)))
        self.register_buffer("normalised", torch.tensor(bool(settings.normalised)))
        self._seen: list[list[Examples]] = [[], []]
        self._aligned = False
        self._count(self.fixed_terms or CHOICES[0])

    @property
    def chooses(self) -> bool:
        """Whether the terms are to be chosen."""
        return self.fixed_terms is None

    def reset(self, aligned: bool = False) -> None:
        """Forgets all images; says whether the next ones are of objects that lie alike."""
        self._aligned = aligned
        self.pixel_moments.reset()
        self._seen = [[], []]

    @in_full_precision
    def update(self, images: Tensor, prediction: Prediction, patch_scores: Tensor) -> None:
        """Takes in a batch of normal images."""
        maps = self._pixel_terms(images, prediction.reconstruction, patch_scores)
        self._remember(0, images, prediction, patch_scores, maps, torch.zeros_like(patch_scores))
        self.pixel_moments.update(maps)

    @in_full_precision
    def update_anomalous(
        self, images: Tensor, prediction: Prediction, patch_scores: Tensor, masks: Tensor
    ) -> None:
        """Takes in a batch of anomalies made from normal images, with masks [B, 1, H, W]."""
        maps = self._pixel_terms(images, prediction.reconstruction, patch_scores)
        changed = F.adaptive_avg_pool2d(masks, self.grid)[:, 0] > 0.25
        self._remember(1, images, prediction, patch_scores, maps, changed)

    @in_full_precision
    def finish(self) -> float | None:
        """Makes the choice and takes the moments; returns how well made anomalies were told, if any."""
        normal = _join(self._seen[0])
        enough = self._aligned and len(normal.nll) >= ENOUGH_TO_NORMALISE
        self.normalised.fill_(enough if self.fixed_normalised is None else self.fixed_normalised)
        anomalous = _join(self._seen[1]) if self._seen[1] else None
        self._seen = [[], []]
        separation = None
        if anomalous is not None and len(normal.nll) >= _ENOUGH_TO_CHOOSE:
            separation = self._choose(normal, anomalous)
        self._take_moments(normal)
        return separation

    @in_full_precision
    def forward(
        self, images: Tensor, prediction: Prediction, patch_scores: Tensor, seen: bool = False
    ) -> Scores:
        """Scores a batch of images [B, 3, H, W], given the scores of their patches [B, rows, columns].

        Images that it has `seen`, in `update`, are scored as if it had seen the others only.
        """
        differences = self._image_differences(images, prediction.reconstruction)
        terms = self._image_terms(patch_scores, differences, seen)
        maps = self._pixel_terms(images, prediction.reconstruction, patch_scores)
        return Scores(
            self.term_moments.standardise(terms) @ self.weights, self._weigh(maps, self.pixel_moments, seen)
        )

    def _remember(
        self,
        kind: int,
        images: Tensor,
        prediction: Prediction,
        patch_scores: Tensor,
        maps: Tensor,
        changed: Tensor,
    ) -> None:
        differences = self._image_differences(images, prediction.reconstruction)
        places = F.adaptive_avg_pool2d(maps, self.grid)
        self._seen[kind].append(Examples(patch_scores, differences, places, changed > 0))

    def _choose(self, normal: Examples, anomalous: Examples) -> float:
        """Takes the best terms; each half of the images is scored with the moments of the other."""
        options = [self.fixed_terms] if self.fixed_terms else CHOICES
        halves = (slice(0, None, 2), slice(1, None, 2))
        values = []
        for terms in options:
            self._count(terms)
            parts = [
                (_part(normal, a), _part(normal, b), _part(anomalous, b)) for a, b in (halves, halves[::-1])
            ]
            values.append(sum(self._separation(*part) for part in parts) / 2)
        best = max(range(len(options)), key=lambda index: values[index] - _WORTHWHILE * len(options[index]))
        self._count(options[best])
        return values[best]

    def _separation(self, known: Examples, normal: Examples, anomalous: Examples) -> float:
        """Mean of the AUROC of images and of places, scored with the moments of the known ones."""
        self._take_moments(known)
        scores = [
            self.term_moments.standardise(self._image_terms(part.nll, part.differences)) @ self.weights
            for part in (normal, anomalous)
        ]
        moments = Moments(*known.places.shape[1:]).to(known.places)
        moments.reset()
        moments.update(known.places)
        places = self._weigh(torch.cat([normal.places, anomalous.places]), moments)[:, 0]
        changed = torch.cat([normal.changed, anomalous.changed])
        return (auroc(*scores) + auroc(places[~changed], places[changed])) / 2

    def _take_moments(self, normal: Examples) -> None:
        for moments, values in (
            (self.patch_moments, lambda: normal.nll),
            (self.term_moments, lambda: self._image_terms(normal.nll, normal.differences)),
        ):
            moments.reset()
            moments.update(values())

    def _weigh(self, maps: Tensor, moments: Moments, seen: bool = False) -> Tensor:
        """The terms of pixels [B, 3, H, W] to one map [B, 1, H, W]."""
        standardised = torch.where(
            self.normalised, moments.standardise_places(maps, 2, seen), moments.standardise(maps, pooled=2)
        )
        return (standardised * self.weights.view(-1, 1, 1)).sum(1, keepdim=True)

    def _placed(self, patch_scores: Tensor, seen: bool = False) -> Tensor:
        placed = self.patch_moments.standardise_places(patch_scores, 2, seen)
        return torch.where(self.normalised, placed, patch_scores)

    def _image_terms(self, patch_scores: Tensor, differences: Tensor, seen: bool = False) -> Tensor:
        """The terms of images, not yet standardised: [B, 3]."""
        nll = largest_mean(self._placed(patch_scores, seen).flatten(1), self.top_patches)
        return torch.cat([nll[:, None], differences], dim=1)

    @staticmethod
    def _image_differences(images: Tensor, reconstruction: Tensor | None) -> Tensor:
        """Mean squared error and structural dissimilarity: [B, 2]; 0 where they do not count."""
        if reconstruction is None:
            return images.new_zeros(images.shape[0], 2)
        mse = (images - reconstruction).square().mean((1, 2, 3))
        return torch.stack([mse, 1 - ssim(images, reconstruction, reduction="none")], dim=-1)

    def _pixel_terms(self, images: Tensor, reconstruction: Tensor | None, patch_scores: Tensor) -> Tensor:
        """The terms of pixels, smoothed: [B, 3, H, W]; 0 where they do not count."""
        nll = F.interpolate(patch_scores[:, None], images.shape[-2:], mode="bilinear")
        if reconstruction is None:
            return F.pad(smooth(nll, self.smoothing), (0, 0, 0, 0, 0, 2))
        error = (images - reconstruction).square().mean(1, keepdim=True)
        dissimilarity = 1 - ssim(images, reconstruction, padding="reflect", reduction="map")
        return smooth(torch.cat([nll, error, dissimilarity.mean(1, keepdim=True)], dim=1), self.smoothing)

    def _count(self, terms: Sequence[Term]) -> None:
        """Makes these terms count, all alike."""
        self.weights.copy_(torch.tensor([float(term in terms) for term in TERMS]) / len(terms))
        self._note_reconstruction()

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._note_reconstruction()

    def _note_reconstruction(self) -> None:
        """In Python, where a program that is exported can ask for it."""
        self.reconstructs = bool(self.weights[1:].any())


def _join(parts: Sequence[Examples]) -> Examples:
    return Examples(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _part(examples: Examples, which: slice) -> Examples:
    return Examples(*(values[which] for values in examples))
