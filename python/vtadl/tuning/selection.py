"""The automatic choice of a dictionary's settings from normal images alone."""

import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.common.progress import progress
from vtadl.density import Background, DensitySettings, Descriptor, Dictionary, DictionarySettings
from vtadl.images.smoothing import smooth
from vtadl.metrics.separation import auroc, single_region_aupro
from vtadl.scoring.scorer import MIN_IMAGES_TO_NORMALISE
from vtadl.scoring.settings import ScoringSettings
from vtadl.scoring.statistics import RunningMoments, top_k_mean
from vtadl.synthesis.anomalies import PseudoAnomalies, make_pseudo_anomalies
from vtadl.synthesis.backgrounds import make_backgrounds
from vtadl.synthesis.takes import estimate_takes, vary_takes

OWN_COMPONENTS = (1, 2, 5, 10, 32)
SHARED_COMPONENTS = (30, 100, 200)
BACKGROUNDS: tuple[Background, ...] = ("none", "pictures")
SOFTNESS = (0.001, 0.03, 0.1, 1.0)
MIN_STD = (0.05, 0.1, 0.2, 0.4)
BACKGROUND_IMAGES = 256
_MIN_IMAGES_PER_COMPONENT = 20
_MAX_HELD_OUT = 64  # images
_COPIES = 128  # jittered copies of held-out images, each of which gets its own pseudo-anomaly
_MAX_COPIES_PER_IMAGE = 4
_MAX_WINDOWS = 150_000  # that candidates are fitted to
_MAX_SHARED_WINDOWS = 20_000  # that shared mixtures are fitted to while candidates are compared
_SHARED_CANDIDATE_COMPONENTS = 100  # of shared mixtures, until the number of components is chosen

log = logging.getLogger(__name__)


class SelectionImages(NamedTuple):
    """The images that candidates are compared with."""

    fitted: Tensor  # [N, C, H, W] normal images to fit to
    normal: Tensor  # [M, C, H, W] jittered copies of the held-out images
    anomalies: PseudoAnomalies  # made of these copies
    held_out: int  # number of held-out images, each with several copies


def choose_settings(
    dictionary: Dictionary,
    images: Tensor,
    density: DensitySettings = DensitySettings(),
    scoring: ScoringSettings = ScoringSettings(),
    seed: int = 0,
) -> DictionarySettings:
    """Chooses the number of components by likelihood, and all other settings by separation.

    Normal images [N, C, H, W] are split into two parts. The dictionary is fitted to one of them, and
    pseudo-anomalies are made of the other. The separation measures how well scores tell these from normal
    images. One setting is chosen after another, except those that `density` gives.
    """
    given = density.given
    parts = split_images(dictionary, images, seed)
    descriptors = [given["descriptor"]] if "descriptor" in given else dictionary.descriptors
    backgrounds = cache(lambda: make_backgrounds(images, BACKGROUND_IMAGES))

    def choose(descriptor: Descriptor) -> tuple[float, DictionarySettings]:
        """The separation of the best settings for a descriptor, and these settings."""
        dictionary.fit_descriptor(images, descriptor)
        starts = _starts(descriptor, len(parts.fitted), given)
        background = backgrounds() if any(start.background == "pictures" for start in starts) else None
        comparison = Comparison(dictionary, parts, background, scoring, seed)
        separation = cache(comparison.separation)
        best = _best("positions", starts, separation)
        tried: dict[str, Sequence[Any]] = {"softness": SOFTNESS, "min_std": MIN_STD}
        for name, values in tried.items():
            if name not in given:
                best = _best(name, [best._replace(**{name: value}) for value in values], separation)
        quality = separation(best) if len(descriptors) > 1 else 0.0
        if "components" not in given:
            sizes = _own_components(len(parts.fitted)) if best.positions == "own" else SHARED_COMPONENTS
            best = _best(
                "components", [best._replace(components=size) for size in sizes], comparison.likelihood
            )
        return quality, best

    return max(map(choose, descriptors), key=lambda found: found[0])[1]


class Comparison:
    """Compares settings for the descriptor that the dictionary has been fitted with."""

    def __init__(
        self,
        dictionary: Dictionary,
        parts: SelectionImages,
        background: Tensor | None,
        scoring: ScoringSettings,
        seed: int,
    ) -> None:
        """Computes the features of the images, and of a background [B, C, H, W] if candidates have one."""
        self.dictionary, self.scoring, self.seed = dictionary, scoring, seed
        self.masks, self.held_out = parts.anomalies.masks, parts.held_out
        self.fitted, self.normal, self.anomalous = map(
            dictionary.pca_coefficients, (parts.fitted, parts.normal, parts.anomalies.images)
        )
        self.background = None if background is None else dictionary.pca_coefficients(background)

    def likelihood(self, settings: DictionarySettings) -> float:
        """Mean log-likelihood of the held-out windows in nats."""
        self.dictionary.fit(self.fitted, settings._replace(background="none"), self.seed)
        return -self.dictionary.scores(self.normal).mean().item()

    def separation(self, settings: DictionarySettings) -> float:
        """Separation of normal images and pseudo-anomalies after a short fit."""
        self.dictionary.fit(
            self.fitted,
            settings,
            self.seed,
            steps=5,
            max_windows=_MAX_SHARED_WINDOWS,
            background=self.background,
        )
        normal, anomalous = (
            self.dictionary.scores(x).unflatten(1, self.dictionary.grid)
            for x in (self.normal, self.anomalous)
        )
        if self.dictionary.aligned and self.held_out >= 2 * MIN_IMAGES_TO_NORMALISE:
            normal, anomalous = _standardise(normal, anomalous)
        return _separation(normal, anomalous, self.masks, self.scoring)


def _starts(descriptor: Descriptor, fitted: int, given: dict[str, Any]) -> list[DictionarySettings]:
    """The settings that the choice starts from: each kind of positions with each background."""
    own = DictionarySettings(descriptor, components=min(5, _own_components(fitted)[-1]))
    shared = own._replace(positions="shared", components=_SHARED_CANDIDATE_COMPONENTS)
    backgrounds = BACKGROUNDS if descriptor == "energies" else BACKGROUNDS[:1]
    return [
        start._replace(background=background)._replace(**given)
        for background in backgrounds
        for start in (own, shared)
        if start.positions == given.get("positions", start.positions)
    ]


def _own_components(fitted: int) -> list[int]:
    """The numbers of components that a number of images is enough for."""
    return [size for size in OWN_COMPONENTS if size == 1 or size * _MIN_IMAGES_PER_COMPONENT <= fitted]


def _best(
    name: str, options: Sequence[DictionarySettings], quality: Callable[[DictionarySettings], float]
) -> DictionarySettings:
    """The option of the highest quality; the first one of equal options."""
    options = list(dict.fromkeys(options))
    if len(options) == 1:
        return options[0]
    values = [quality(settings) for settings in progress(options, f"choosing the {name}")]
    for settings, value in zip(options, values, strict=True):
        log.info("%s: %.4f", settings, value)
    return options[max(range(len(options)), key=values.__getitem__)]


def split_images(dictionary: Dictionary, images: Tensor, seed: int) -> SelectionImages:
    """Splits normal images [N, C, H, W] into those to fit to, and those to hold out."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).to(images.device)
    held_out = max(1, min(_MAX_HELD_OUT, len(images) // 4))
    held_out -= held_out % 2 if held_out > 1 else 0  # an even number keeps an image's copies in the same half
    copies = min(_MAX_COPIES_PER_IMAGE, -(-_COPIES // held_out))
    fitted_count = max(1, _MAX_WINDOWS // (dictionary.grid[0] * dictionary.grid[1]))
    normal = vary_takes(images[order[:held_out]].repeat(copies, 1, 1, 1), estimate_takes(images), seed)
    kept = order[held_out:] if len(images) > 1 else order  # a single image is in both parts
    fitted = images[kept[:fitted_count]]
    return SelectionImages(fitted, normal, make_pseudo_anomalies(normal, seed), held_out)


def _separation(normal: Tensor, anomalous: Tensor, masks: Tensor, scoring: ScoringSettings) -> float:
    """Mean of the AUROC of images and the AUPRO of regions, from scores [M, rows, columns]."""
    images = [top_k_mean(scores.flatten(1), scoring.top_patches) for scores in (normal, anomalous)]
    before, after = (
        smooth(F.interpolate(scores[:, None], masks.shape[-2:], mode="bilinear"), scoring.smoothing)
        for scores in (normal, anomalous)
    )
    return (auroc(images[0], images[1]) + single_region_aupro(before, after, masks)) / 2


def _standardise(normal: Tensor, anomalous: Tensor) -> tuple[Tensor, Tensor]:
    """Standardises each half of the scores by the moments of the other half of the normal ones."""
    halves = (slice(0, None, 2), slice(1, None, 2))
    parts: list[tuple[Tensor, Tensor]] = []
    for reference, scored in (halves, halves[::-1]):
        standardise = partial(RunningMoments.of(normal[reference]).standardise_positions, dims=2)
        parts.append((standardise(normal[scored]), standardise(anomalous[scored])))
    order = torch.cat([torch.arange(len(normal))[part] for part in halves[::-1]]).argsort()
    return (torch.cat([part[0] for part in parts])[order], torch.cat([part[1] for part in parts])[order])
