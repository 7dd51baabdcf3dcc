"""The automatic choice of a dictionary's settings, without a single anomalous image."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from vtadl.model.dictionary import Dictionary, DictionarySettings
from vtadl.pseudo_anomalies import make_pseudo_anomalies
from vtadl.separation import auroc

OWN_COMPONENTS = (1, 2, 5, 10, 32)
SHARED_COMPONENTS = (30, 100)
SOFTNESS = (0.001, 0.03, 1.0)
MIN_STD = (0.05, 0.1, 0.2, 0.4)
_SAMPLES_PER_COMPONENT = 20
_HELD_OUT = 64
_FITTED_WINDOWS = 150_000  # that candidates are fitted to, at most

log = logging.getLogger(__name__)


class Candidates(NamedTuple):
    """Held-out normal images, and anomalies made from them, as principal components."""

    fitted: Tensor  # [N, P, D]
    normal: Tensor  # [M, P, D]
    anomalous: Tensor  # [M, P, D]
    masks: Tensor  # [M, P]: whether a position was changed


def choose_settings(
    dictionary: Dictionary, images: Tensor, top_patches: int, seed: int = 0, **fixed: Any
) -> DictionarySettings:
    """Chooses positions, whitening and floor by separation, and the number of components by likelihood.

    Normal images [N, C, H, W] are split; the dictionary is fitted to one part, and anomalies made from
    the other part are told from it. One setting is chosen after the other; `fixed` ones are not.
    """
    candidates = _split(dictionary, images, seed)
    count = len(candidates.fitted)
    own = [size for size in OWN_COMPONENTS if size == 1 or size * _SAMPLES_PER_COMPONENT <= count]

    def separation(settings: DictionarySettings) -> float:
        dictionary.fit(candidates.fitted, settings, seed, steps=5)
        return _separation(dictionary, candidates, top_patches)

    def likelihood(settings: DictionarySettings) -> float:
        dictionary.fit(candidates.fitted, settings, seed)
        return -dictionary.nll(candidates.normal).mean().item()

    start = DictionarySettings(components=min(5, own[-1]))
    shared = start._replace(positions="shared", components=SHARED_COMPONENTS[-1])
    best = _best("positions", [option._replace(**fixed) for option in (start, shared)], separation)
    if "softness" not in fixed:
        best = _best("whitening", [best._replace(softness=value) for value in SOFTNESS], separation)
    if "min_std" not in fixed:
        best = _best("floor", [best._replace(min_std=value) for value in MIN_STD], separation)
    if "components" not in fixed:
        sizes = own if best.positions == "own" else SHARED_COMPONENTS
        best = _best("components", [best._replace(components=size) for size in sizes], likelihood)
    return best


def _best(
    name: str, options: Sequence[DictionarySettings], quality: Callable[[DictionarySettings], float]
) -> DictionarySettings:
    """The option of the highest quality, the first of equals."""
    options = list(dict.fromkeys(options))
    if len(options) == 1:
        return options[0]
    values = [quality(settings) for settings in track(options, f"choosing the {name}", transient=True)]
    for settings, value in zip(options, values, strict=True):
        log.info("%s: %.4f", settings, value)
    return options[max(range(len(options)), key=values.__getitem__)]


def _split(dictionary: Dictionary, images: Tensor, seed: int) -> Candidates:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).to(images.device)
    held_out = max(1, min(_HELD_OUT, len(images) // 4))
    fitted_count = max(1, _FITTED_WINDOWS // (dictionary.grid[0] * dictionary.grid[1]))
    normal, fitted = images[order[:held_out]], images[order[held_out:][:fitted_count]]
    anomalies = make_pseudo_anomalies(normal, seed)
    masks = F.adaptive_avg_pool2d(anomalies.masks, dictionary.grid).flatten(1) > 0.25
    of = dictionary.components_of
    return Candidates(of(fitted), of(normal), of(anomalies.images), masks)


def _separation(dictionary: Dictionary, candidates: Candidates, top_patches: int) -> float:
    """Mean of the AUROC of images and of positions."""
    normal, anomalous = dictionary.nll(candidates.normal), dictionary.nll(candidates.anomalous)
    count = min(top_patches, normal.shape[1])
    scores = [nll.topk(count).values.mean(1) for nll in (normal, anomalous)]
    positions = torch.cat([normal, anomalous]).flatten()
    changed = torch.cat([torch.zeros_like(candidates.masks), candidates.masks]).flatten()
    return (auroc(*scores) + auroc(positions[~changed], positions[changed])) / 2
