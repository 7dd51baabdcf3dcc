from collections.abc import Sequence

import pytest
import torch

from vtadl.density import DensitySettings, Dictionary, ExpertSettings
from vtadl.features.energies import LocalEnergies, MultiscaleEnergies
from vtadl.features.windows import Windows
from vtadl.images.smoothing import smooth
from vtadl.metrics.separation import auroc, single_region_aupro
from vtadl.scoring.settings import ScoringSettings
from vtadl.synthesis.takes import TakeVariation
from vtadl.tuning import selection
from vtadl.tuning.candidates import candidate_experts
from vtadl.tuning.fitting import describe, fit_dictionary
from vtadl.tuning.selection import Choice, Comparison, choose_experts, hold_out, take_again
from vtadl.tuning.symmetry import add_turned

SCORING = ScoringSettings(top_patches=5)


def aligned_images(count: int) -> torch.Tensor:
    """The same picture in every image, at slightly different brightness."""
    picture = torch.nn.functional.interpolate(torch.rand(1, 1, 8, 8), (32, 32), mode="bicubic")[0] * 0.6 + 0.2
    return (picture * (0.9 + 0.2 * torch.rand(count, 3, 1, 1)) + 0.02 * torch.randn(count, 3, 32, 32)).clamp(
        0, 1
    )


def turned_images(count: int, noise: float = 0.02) -> torch.Tensor:
    """A bar that lies differently in every image."""
    angle, shift = torch.pi * torch.rand(count, 1, 1), 8 * torch.rand(count, 1, 1) - 4
    place = torch.arange(32.0) - 15.5
    distance = (place[:, None] * angle.cos() + place * angle.sin() - shift).abs()
    bars = (0.8 - 0.6 * (distance / 3 - 1).clamp(0, 1))[:, None].expand(-1, 3, -1, -1)
    return (bars + noise * torch.randn(count, 3, 32, 32)).clamp(0, 1)


def compare(dictionary: Dictionary, images: torch.Tensor, experts: Sequence[ExpertSettings]) -> Comparison:
    described = describe(dictionary, add_turned(images, "none"), experts)
    return Comparison(dictionary, images, described, SCORING)


def make_dictionary() -> Dictionary:
    size = (32, 32)
    extractors = {
        "energies": LocalEnergies(size, 4),
        "pixels": Windows(size, 4),
        "multiscale-energies": MultiscaleEnergies(size, 4),
    }
    return Dictionary(extractors, 16)


def choose(images: torch.Tensor, single: bool = False, **given: object) -> list[Choice]:
    dictionary = make_dictionary()
    candidates = candidate_experts(DensitySettings(**given), dictionary.descriptors, len(images))
    comparison = compare(dictionary, images, candidates)
    return choose_experts(comparison, candidates, single)


def weight_of(choices: list[Choice], **settings: object) -> float:
    """The weight of all experts with these settings."""
    return sum(
        choice.weight
        for choice in choices
        if all(getattr(choice.settings, name) == value for name, value in settings.items())
    )


def test_aligned_objects_get_mixtures_of_their_own_and_turned_ones_share():
    given = {"descriptor": "pixels", "softness": 0.03, "min_std": 0.1}
    assert weight_of(choose(aligned_images(60), components=2, **given), positions="own") > 0.5
    assert weight_of(choose(turned_images(40), components=30, **given), positions="shared") > 0.5


def test_experts_of_little_weight_are_left_out(monkeypatch):
    images, weights = turned_images(20), torch.tensor([0.58, 0.03, 0.06, 0.33, 0.0])
    monkeypatch.setattr(selection, "select_bagged_ensemble", lambda scores, _: weights[: len(scores)])
    monkeypatch.setattr(selection, "_PRIOR", 0)
    choices = choose(images, components=10)
    assert [choice.weight for choice in choices] == pytest.approx([0.58, 0.06, 0.33])
    assert all(choice.deviation > 0 for choice in choices)


def test_a_single_expert_is_the_best_one():
    images, given = turned_images(20), {"descriptor": "energies", "components": 10}
    (choice,) = choose(images, single=True, **given)
    assert choice.weight == 1
    dictionary = make_dictionary()
    candidates = candidate_experts(DensitySettings(**given), dictionary.descriptors, len(images))
    comparison = compare(dictionary, images, candidates)
    assert choice.settings == max(candidates, key=lambda x: comparison.separation(comparison.scores(x)))


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_small_sets_get_a_fit_too(count, capsys):
    dictionary, images = make_dictionary(), aligned_images(count)
    fit_dictionary(dictionary, images, DensitySettings(descriptor="energies"), SCORING)
    assert "expert of weight" in capsys.readouterr().out
    assert dictionary.weights.sum().item() == pytest.approx(1)
    assert sum(expert.mu.shape[1] for expert in dictionary.experts if expert.aligned) <= 2 * (count // 8 + 1)
    changed = images.clone()
    changed[..., 8:16, 8:16] = 1 - changed[..., 8:16, 8:16]
    scores, anomalous = dictionary(images), dictionary(changed)
    assert scores.isfinite().all()
    assert anomalous.flatten(1).amax(1).min() > scores.flatten(1).amax(1).max()


def test_the_choice_is_the_same_every_time():
    images = turned_images(20)
    given = {"descriptor": "energies", "components": 10}
    assert choose(images, **given) == choose(images, **given)


def test_an_image_held_out_is_taken_several_times_and_never_fitted_to():
    images = 0.5 * torch.eye(32)[:, None, :, None].expand(-1, 3, -1, 32)  # each is bright in a row of its own
    dictionary = make_dictionary()
    candidates = candidate_experts(DensitySettings(descriptor="pixels"), dictionary.descriptors, 32)
    described = describe(dictionary, add_turned(images, "none"), candidates)
    comparison = Comparison(dictionary, images, described, SCORING)
    rows = comparison.normal.mean((1, 3)).argmax(1).tolist()
    assert sorted(rows) == sorted(4 * comparison.held_out.tolist())
    assert len(set(rows)) == 8
    _, kept = hold_out(32, comparison.seed)
    assert set(rows).isdisjoint(kept.tolist())
    assert torch.equal(comparison.fitted["pixels"], described.normal["pixels"][kept.sort().values])


@pytest.mark.parametrize(("count", "held_out"), [(1, 1), (2, 1), (8, 2), (20, 5), (1000, 64)])
def test_a_quarter_of_the_images_is_held_out(count, held_out):
    out, kept = hold_out(count, seed=0)
    assert len(out) == held_out
    assert sorted({*out.tolist(), *kept.tolist()}) == list(range(count))
    assert count == 1 or set(out.tolist()).isdisjoint(kept.tolist())


def test_images_are_taken_again_until_there_are_enough():
    images = torch.rand(40, 3, 8, 8)
    assert len(take_again(images, torch.arange(40), takes=12, seed=0)) == 12
    assert len(take_again(images, torch.arange(40), takes=70, seed=0)) == 80
    assert len(take_again(images, torch.arange(2), takes=70, seed=0)) == 8


def test_moments_are_those_of_normal_takes():
    images = turned_images(20)
    dictionary = make_dictionary()
    given = DensitySettings(descriptor="energies", components=5)
    candidates = candidate_experts(given, dictionary.descriptors, len(images))
    comparison = compare(dictionary, images, candidates)
    for choice in choose_experts(comparison, candidates):
        normal, _ = (comparison.scores(choice.settings) - choice.mean) / choice.deviation
        assert normal.mean().item() == pytest.approx(0, abs=1e-3)
        assert normal.std().item() == pytest.approx(1, abs=1e-3)


def test_auroc_counts_ties_half():
    normal, anomalous = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 3.0])
    assert auroc(normal, anomalous) == pytest.approx((1.5 + 3) / 6)
    assert auroc(normal, torch.empty(0)) == 0.5


def test_regions_are_found_where_maps_stand_out_each_counting_alike():
    masks = torch.zeros(2, 1, 10, 10)
    masks[0, :, :1, :1] = 1
    masks[1, :, :5] = 1
    normal = torch.rand(2, 1, 10, 10)
    assert single_region_aupro(normal, normal + 2 * masks, masks) == pytest.approx(1)
    assert single_region_aupro(normal, normal - 2 * masks, masks) == 0
    assert single_region_aupro(normal, normal + 2 * masks * masks[:1], masks) == pytest.approx(0.5, abs=0.1)


def test_a_texture_is_compared_with_other_textures():
    """Smoother noise is likelier than what is normal, unless it is likelier still among other textures."""
    noise = torch.rand(96, 1, 40, 40)
    images = (0.5 + smooth(noise, 1.0) - smooth(noise, 2.0))[..., 4:-4, 4:-4].expand(-1, 3, -1, -1)
    choices = choose(images, components=10)
    assert weight_of(choices, background="pictures") > 0.2 + weight_of(choices, positions="own")


def test_what_imaging_noise_disturbs_is_not_chosen(monkeypatch):
    """Bars on a plain ground lie anywhere: the energies of the ground are those of the camera's noise."""
    noisy_takes = TakeVariation(noise_std=0.05, gain_std=0.02, offset_std=0.005)
    monkeypatch.setattr(selection, "estimate_takes", lambda images: noisy_takes)
    images = turned_images(24, noise=0.003)
    given = {"softness": 0.03, "min_std": 0.1, "positions": "shared", "components": 10}
    experts = [
        candidate_experts(DensitySettings(descriptor=name, **given), frozenset([name]), 24)[0]
        for name in ("energies", "pixels")
    ]
    dictionary = make_dictionary()
    choices = choose_experts(
        compare(dictionary, images, experts),
        experts,
    )
    assert weight_of(choices, descriptor="pixels") > 0.5


@pytest.mark.parametrize("count", [1, 4])
def test_few_images_weigh_experts_nearly_equally(count):
    dictionary, images = make_dictionary(), aligned_images(count)
    candidates = candidate_experts(DensitySettings(), dictionary.descriptors, count)
    weights = [
        choice.weight for choice in choose_experts(compare(dictionary, images, candidates), candidates)
    ]
    assert len(weights) == len(candidates)
    assert max(weights) - min(weights) <= (0 if count == 1 else 0.2)
