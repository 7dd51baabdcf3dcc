import pytest
import torch

from vtadl.density import DensitySettings
from vtadl.density.descriptors import make_extractors
from vtadl.density.dictionary import Dictionary
from vtadl.errors import InputError
from vtadl.lightning_module import AnomalyDetector
from vtadl.scoring.settings import ScoringSettings
from vtadl.tuning.candidates import candidate_experts
from vtadl.tuning.fitting import describe, fit_dictionary
from vtadl.tuning.folds import score_out_of_fold
from vtadl.tuning.selection import Comparison
from vtadl.tuning.symmetry import ELEMENTS, add_turned, find_symmetry, turn

SIDE = 32


def bars(elements: tuple[int, ...], count: int = 48, size: tuple[int, int] = (SIDE, SIDE)) -> torch.Tensor:
    """Draws an object without any symmetry, which lies as one of these elements turns it."""
    height, width = size
    image = torch.full((3, height, width), 0.2)
    image[:, height // 2 - 2 : height // 2 + 2, width // 8 : -width // 8] = 0.8
    image[:, height // 8 : height // 2, -width // 4 : -width // 8] = 0.6
    image[:, height // 2 : height // 2 + 4, width // 8 : width // 4] = 0.4
    drawn = [turn(image, elements[index % len(elements)]) for index in range(count)]
    return (torch.stack(drawn) + 0.02 * torch.randn(count, 3, height, width)).clamp(0, 1)


@pytest.mark.parametrize("symmetry", list(ELEMENTS))
def test_objects_that_lie_in_some_directions_have_that_symmetry(symmetry):
    assert find_symmetry(bars((0, *ELEMENTS[symmetry]))) == symmetry


def test_wide_images_are_turned_by_half_at_most():
    images = bars((0, *ELEMENTS["mirrors"]), size=(SIDE, 2 * SIDE))
    assert find_symmetry(images) == "mirrors"
    assert find_symmetry(torch.rand(48, 3, SIDE, 2 * SIDE)) == "mirrors"


@pytest.mark.parametrize("symmetry", ["quarter-turns", "all"])
def test_wide_images_cannot_be_turned_by_a_quarter(symmetry):
    with pytest.raises(InputError, match=f"symmetry is {symmetry}, .*; image_size is 32x64"):
        AnomalyDetector.from_settings(image_size=(32, 64), symmetry=symmetry)


@pytest.mark.parametrize("symmetry", ["none", "half-turn", "mirror-x", "mirror-y", "mirrors"])
def test_wide_images_are_mirrored(symmetry):
    AnomalyDetector.from_settings(image_size=(32, 64), symmetry=symmetry)
    normal = add_turned(torch.rand(3, 3, 4, 6), symmetry)
    assert len(normal.images) == 3 * (1 + len(ELEMENTS[symmetry]))


def test_few_images_show_no_symmetry():
    assert find_symmetry(torch.rand(15, 3, SIDE, SIDE)) == "none"


@pytest.mark.parametrize("symmetry", list(ELEMENTS))
def test_elements_are_a_group(symmetry):
    image, elements = torch.rand(1, 5, 5), (0, *ELEMENTS[symmetry])
    turned = [turn(image, element) for element in elements]
    for second in elements:
        assert all(any(turn(first, second).equal(x) for x in turned) for first in turned)


@pytest.mark.parametrize(("count", "expected"), [(30, 120), (150, 400), (500, 500)])
def test_turned_images_follow_the_given_ones(count, expected):
    images = torch.rand(count, 3, 4, 4)
    normal = add_turned(images, "quarter-turns")
    assert len(normal.images) == len(normal.origins) == expected
    assert normal.images[:count].equal(images)
    for image, origin in zip(normal.images[count:], normal.origins[count:].tolist(), strict=True):
        assert any(turn(images[origin], element).equal(image) for element in ELEMENTS["quarter-turns"])
    assert len(normal.images.flatten(1).unique(dim=0)) == expected


def test_what_is_held_out_is_not_seen_in_another_direction():
    images, density = bars((0, 1, 2, 3), 16), DensitySettings(descriptor="energies", positions="near")
    dictionary = Dictionary(make_extractors(density, (SIDE, SIDE)))
    described = describe(
        dictionary, add_turned(images, "all"), candidate_experts(density, dictionary.descriptors, 16)
    )
    comparison = Comparison(dictionary, images, described, ScoringSettings())
    assert len(comparison.fitted["energies"]) == 12 * 8


def test_folds_hold_out_turned_images_as_well():
    images, density = bars((0,), 16), DensitySettings(descriptor="energies", positions="near", symmetry="all")
    images[0] = torch.rand(3, SIDE, SIDE)
    dictionary = Dictionary(make_extractors(density, (SIDE, SIDE)))
    fit = fit_dictionary(dictionary, images, density, ScoringSettings())
    scores = score_out_of_fold(dictionary, *fit, torch.arange(16) % 4).flatten(1).mean(1)
    assert scores[0] > 2 * scores[1:].max()
