"""The fit of the dictionary, before the transformer is trained."""

import logging
from collections.abc import Iterable

import torch
from torch import Tensor

from vtadl.data import Sample
from vtadl.density import DensitySettings
from vtadl.model import VTADL
from vtadl.scoring.settings import ScoringSettings
from vtadl.synthesis.backgrounds import make_backgrounds
from vtadl.tuning.selection import BACKGROUND_IMAGES, choose_settings

_MAX_WINDOWS = 400_000  # of the training images

log = logging.getLogger(__name__)


def collect_images(loader: Iterable[Sample], grid: tuple[int, int]) -> Tensor:
    """Collects as many training images [N, 3, H, W] as the dictionary is fitted to."""
    wanted = max(1, _MAX_WINDOWS // (grid[0] * grid[1]))
    images: list[Tensor] = []
    for batch in loader:
        images.append(batch["image"])
        wanted -= len(batch["image"])
        if wanted <= 0:
            break
    return torch.cat(images)


def fit_dictionary(
    network: VTADL, images: Tensor, density: DensitySettings, scoring: ScoringSettings
) -> None:
    """Fits the network's dictionary to images [N, 3, H, W]; settings that are not given are chosen."""
    dictionary = network.dictionary
    settings = choose_settings(dictionary, images, density, scoring)
    dictionary.fit_descriptor(images, settings.descriptor)
    coefficients = dictionary.pca_coefficients(images)
    background = None
    if settings.background == "pictures":
        background = dictionary.pca_coefficients(make_backgrounds(images, BACKGROUND_IMAGES))
    dictionary.fit(coefficients, settings, background=background)
    network.open_gate()
    log.info("dictionary: %s", settings)
    print(
        f"dictionary: {settings.descriptor}, {settings.positions} mixtures of {settings.components} "
        f"components, floor {settings.min_std}, softness {settings.softness}, "
        f"background {settings.background}"
    )
