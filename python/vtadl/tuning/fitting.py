"""The fit of the dictionary: its experts are chosen, and fitted to all training images."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from vtadl.data import Sample
from vtadl.density import DensitySettings, Dictionary, ExpertSettings
from vtadl.density.dictionary import Member
from vtadl.density.expert import Expert
from vtadl.scoring.settings import ScoringSettings
from vtadl.synthesis.backgrounds import make_backgrounds
from vtadl.tuning.candidates import candidate_experts
from vtadl.tuning.selection import Choice, Coefficients, Comparison, choose_experts

_MAX_WINDOWS = 400_000  # of the training images
_BACKGROUND_TILES = 256


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
    dictionary: Dictionary, images: Tensor, density: DensitySettings, scoring: ScoringSettings
) -> None:
    """Fits a dictionary to images [N, 3, H, W]; settings that are not given are chosen."""
    candidates = candidate_experts(density, dictionary.descriptors, len(images))
    coefficients = {
        name: dictionary.fit_projection(images, name)
        for name in dict.fromkeys(candidate.descriptor for candidate in candidates)
    }
    backgrounds = _backgrounds(dictionary, images, candidates)
    choices = [Choice(candidates[0])]
    if len(candidates) > 1:
        comparison = Comparison(dictionary, images, coefficients, backgrounds, scoring)
        choices = choose_experts(comparison, candidates, single=density.trains)
    dictionary.set_members([_fit_member(dictionary, choice, coefficients, backgrounds) for choice in choices])
    for choice in choices:
        print(_sentence(choice))


def _backgrounds(
    dictionary: Dictionary, images: Tensor, candidates: Sequence[ExpertSettings]
) -> Coefficients:
    """The PCA coefficients of pictures of other subjects, for the descriptors that need them."""
    names = dict.fromkeys(x.descriptor for x in candidates if x.background == "pictures")
    pictures = make_backgrounds(images, _BACKGROUND_TILES) if names else images[:0]
    return {name: dictionary.pca_coefficients(pictures, name) for name in names}


def _fit_member(
    dictionary: Dictionary, choice: Choice, coefficients: Coefficients, backgrounds: Coefficients
) -> Member:
    settings = choice.settings
    expert = Expert(settings.descriptor, dictionary.trained)
    projection = dictionary.projection(settings.descriptor)
    background = backgrounds.get(settings.descriptor)
    expert.fit(coefficients[settings.descriptor], projection, settings, background=background)
    return Member(expert, choice.weight, choice.mean, choice.deviation)


def _sentence(choice: Choice) -> str:
    settings = choice.settings
    return (
        f"expert of weight {choice.weight:.2f}: {settings.descriptor}, {settings.positions} mixtures of "
        f"{settings.components} components, floor {settings.min_std}, softness {settings.softness}, "
        f"background {settings.background}"
    )
