"""The automatic choice of a dictionary's settings, without a single anomalous image."""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.common.progress import progress
from vtadl.density import Background, DensitySettings, Descriptor, Dictionary, DictionarySettings
from vtadl.images.smoothing import smooth
from vtadl.metrics.separation import auroc, single_region_aupro
from vtadl.scoring.scorer import ENOUGH_TO_NORMALISE
from vtadl.scoring.settings import ScoringSettings
from vtadl.scoring.statistics import Moments, largest_mean
from vtadl.synthesis.anomalies import PseudoAnomalies, make_pseudo_anomalies, photometric_jitter
from vtadl.synthesis.backgrounds import make_backgrounds

OWN_COMPONENTS = (1, 2, 5, 10, 32)
SHARED_COMPONENTS = (30, 100, 200)
BACKGROUNDS: tuple[Background, ...] = ("none", "pictures")
SOFTNESS = (0.001, 0.03, 0.1, 1.0)
MIN_STD = (0.05, 0.1, 0.2, 0.4)
BACKGROUND_PICTURES = 256
_SAMPLES_PER_COMPONENT = 20
_HELD_OUT = 64
_TAKES = 128  # jittered copies of the held-out images, where these are enough; each has an anomaly of its own
_TAKES_OF_AN_IMAGE = 4  # at most
_FITTED_WINDOWS = 150_000  # that candidates are fitted to, at most
_RANKED_COMPONENTS = 100  # of shared mixtures, when all else is compared
_RANKED_WINDOWS = 20_000  # that shared mixtures are fitted to, to be compared

log = logging.getLogger(__name__)


class Parts(NamedTuple):
    """What candidates are compared by."""

    fitted: Tensor  # [N, C, H, W] normal images to fit to
    normal: Tensor  # [M, C, H, W] takes of others that are held out
    anomalies: PseudoAnomalies  # made from these
    held_out: int  # images, of several takes each


def choose_settings(
    dictionary: Dictionary,
    images: Tensor,
    density: DensitySettings = DensitySettings(),
    scoring: ScoringSettings = ScoringSettings(),
    seed: int = 0,
) -> DictionarySettings:
    """Chooses the number of components by likelihood and all else by separation.

    Normal images [N, C, H, W] are split; the dictionary is fitted to one part, and anomalies made from
    the other part are told from it. One setting is chosen after the other, except those that
    `density` gives.
    """
    given = density.given
    parts = split(dictionary, images, seed)
    descriptors = [given["descriptor"]] if "descriptor" in given else dictionary.descriptors
    pictures = cache(lambda: make_backgrounds(images, BACKGROUND_PICTURES))

    def choose(descriptor: Descriptor) -> tuple[float, DictionarySettings]:
        """The best settings for a descriptor, and how well they separate."""
        dictionary.describe(images, descriptor)
        starts = _starts(descriptor, len(parts.fitted), given)
        background = pictures() if any(start.background == "pictures" for start in starts) else None
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
    """Compares settings of a descriptor that the dictionary has taken."""

    def __init__(
        self,
        dictionary: Dictionary,
        parts: Parts,
        background: Tensor | None,
        scoring: ScoringSettings,
        seed: int,
    ) -> None:
        """Describes the images, and those of a background [B, C, H, W] if candidates have one."""
        self.dictionary, self.scoring, self.seed = dictionary, scoring, seed
        self.masks, self.held_out = parts.anomalies.masks, parts.held_out
        self.fitted, self.normal, self.anomalous = map(
            dictionary.components_of, (parts.fitted, parts.normal, parts.anomalies.images)
        )
        self.background = None if background is None else dictionary.components_of(background)

    def likelihood(self, settings: DictionarySettings) -> float:
        """Mean log-likelihood of the held-out windows in nats."""
        self.dictionary.fit(self.fitted, settings._replace(background="none"), self.seed)
        return -self.dictionary.scores(self.normal).mean().item()

    def separation(self, settings: DictionarySettings) -> float:
        """How well made anomalies are told, after a short fit."""
        self.dictionary.fit(
            self.fitted, settings, self.seed, steps=5, windows=_RANKED_WINDOWS, background=self.background
        )
        normal, anomalous = (
            self.dictionary.scores(x).unflatten(1, self.dictionary.grid)
            for x in (self.normal, self.anomalous)
        )
        if self.dictionary.aligned and self.held_out >= 2 * ENOUGH_TO_NORMALISE:
            normal, anomalous = _standardise(normal, anomalous)
        return _separation(normal, anomalous, self.masks, self.scoring)


def _starts(descriptor: Descriptor, fitted: int, given: dict[str, Any]) -> list[DictionarySettings]:
    """Where the choice starts from: each kind of positions, with each background."""
    own = DictionarySettings(descriptor, components=min(5, _own_components(fitted)[-1]))
    shared = own._replace(positions="shared", components=_RANKED_COMPONENTS)
    backgrounds = BACKGROUNDS if descriptor == "energies" else BACKGROUNDS[:1]
    return [
        start._replace(background=background)._replace(**given)
        for background in backgrounds
        for start in (own, shared)
        if start.positions == given.get("positions", start.positions)
    ]


def _own_components(fitted: int) -> list[int]:
    """Numbers of components that so many images are enough for."""
    return [size for size in OWN_COMPONENTS if size == 1 or size * _SAMPLES_PER_COMPONENT <= fitted]


def _best(
    name: str, options: Sequence[DictionarySettings], quality: Callable[[DictionarySettings], float]
) -> DictionarySettings:
    """The option of the highest quality, the first of equals."""
    options = list(dict.fromkeys(options))
    if len(options) == 1:
        return options[0]
    values = [quality(settings) for settings in progress(options, f"choosing the {name}")]
    for settings, value in zip(options, values, strict=True):
        log.info("%s: %.4f", settings, value)
    return options[max(range(len(options)), key=values.__getitem__)]


def split(dictionary: Dictionary, images: Tensor, seed: int) -> Parts:
    """Normal images [N, C, H, W] into those to fit to, and those to make several takes and anomalies from."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).to(images.device)
    held_out = max(1, min(_HELD_OUT, len(images) // 4))
    held_out -= held_out % 2 if held_out > 1 else 0  # so that each image's takes stay in the same half
    takes = min(_TAKES_OF_AN_IMAGE, -(-_TAKES // held_out))
    fitted_count = max(1, _FITTED_WINDOWS // (dictionary.grid[0] * dictionary.grid[1]))
    normal = photometric_jitter(images[order[:held_out]].repeat(takes, 1, 1, 1), seed)
    kept = order[held_out:] if len(images) > 1 else order  # a lone image is on both sides
    fitted = images[kept[:fitted_count]]
    return Parts(fitted, normal, make_pseudo_anomalies(normal, seed), held_out)


def _separation(normal: Tensor, anomalous: Tensor, masks: Tensor, scoring: ScoringSettings) -> float:
    """Mean of the AUROC of images and the overlap of regions, from scores [M, rows, columns]."""
    images = [largest_mean(scores.flatten(1), scoring.top_patches) for scores in (normal, anomalous)]
    before, after = (
        smooth(F.interpolate(scores[:, None], masks.shape[-2:], mode="bilinear"), scoring.smoothing)
        for scores in (normal, anomalous)
    )
    return (auroc(images[0], images[1]) + single_region_aupro(before, after, masks)) / 2


def _standardise(normal: Tensor, anomalous: Tensor) -> tuple[Tensor, Tensor]:
    """Each half of both by the moments that each place has in the other half of the normal ones."""
    halves = (slice(0, None, 2), slice(1, None, 2))
    parts: list[tuple[Tensor, Tensor]] = []
    for known, scored in (halves, halves[::-1]):
        moments = Moments(*normal.shape[1:]).to(normal)
        moments.reset()
        moments.update(normal[known])
        parts.append(
            (moments.standardise_places(normal[scored], 2), moments.standardise_places(anomalous[scored], 2))
        )
    order = torch.cat([torch.arange(len(normal))[part] for part in halves[::-1]]).argsort()
    return (torch.cat([part[0] for part in parts])[order], torch.cat([part[1] for part in parts])[order])
