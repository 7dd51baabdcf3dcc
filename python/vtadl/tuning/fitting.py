"""The fit of the dictionary: its experts are chosen, and fitted to all training images."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from vtadl.density import DensitySettings, Dictionary, ExpertSettings
from vtadl.density.dictionary import Member
from vtadl.scoring.settings import ScoringSettings
from vtadl.synthesis.backgrounds import make_backgrounds
from vtadl.tuning.candidates import candidate_experts
from vtadl.tuning.selection import Choice, Comparison, Described, choose_experts
from vtadl.tuning.symmetry import Normal, add_turned

_BACKGROUND_TILES = 256


class Fit(NamedTuple):
    """What a dictionary was fitted with."""

    choices: list[Choice]  # of the experts
    described: Described  # the images


def fit_dictionary(
    dictionary: Dictionary, images: Tensor, density: DensitySettings, scoring: ScoringSettings
) -> Fit:
    """Fits a dictionary to images [N, 3, H, W]; settings that are not given are chosen."""
    normal = add_turned(images, density.symmetry)
    candidates = candidate_experts(density, dictionary.descriptors, len(normal.images))
    described = describe(dictionary, normal, candidates)
    choices = [Choice(candidates[0])]
    if len(candidates) > 1:
        comparison = Comparison(dictionary, images, described, scoring)
        choices = choose_experts(comparison, candidates, single=density.trains)
    dictionary.set_members([fit_member(dictionary, choice, described) for choice in choices])
    for choice in choices:
        print(_sentence(choice))
    if turned := len(normal.images) - len(images):
        print(f"symmetry: {normal.symmetry}; {turned} turned images were added to {len(images)}")
    return Fit(choices, described)


def describe(dictionary: Dictionary, normal: Normal, experts: Sequence[ExpertSettings]) -> Described:
    """Fits the projections that experts need to images, and computes the coefficients."""
    descriptors = dict.fromkeys(expert.descriptor for expert in experts)
    images = normal.images
    coefficients = {name: dictionary.fit_projection(images, name) for name in descriptors}
    compared = dict.fromkeys(expert.descriptor for expert in experts if expert.background == "pictures")
    pictures = make_backgrounds(images, _BACKGROUND_TILES) if compared else images[:0]
    compared_with = {name: dictionary.pca_coefficients(pictures, name) for name in compared}
    return Described(coefficients, compared_with, normal.origins)


def fit_member(dictionary: Dictionary, choice: Choice, described: Described) -> Member:
    """Fits an expert to all images, turned ones included, with the weight and the moments that were found."""
    name = choice.settings.descriptor
    background = described.pictures.get(name)
    expert = dictionary.fit_expert(described.normal[name], choice.settings, background=background)
    return Member(expert, choice.weight, choice.mean, choice.deviation)


def _sentence(choice: Choice) -> str:
    settings = choice.settings
    expert = f"expert of weight {choice.weight:.2f}: {settings.descriptor}, "
    if settings.positions == "near":
        return f"{expert}nearest windows, softness {settings.softness}"
    return (
        f"{expert}{settings.positions} mixtures of {settings.components} components, "
        f"floor {settings.min_std}, softness {settings.softness}, background {settings.background}"
    )
