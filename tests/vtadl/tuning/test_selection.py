import pytest
import torch

from vtadl.density import DensitySettings, Dictionary, DictionarySettings
from vtadl.features.energies import LocalEnergies
from vtadl.features.windows import Windows
from vtadl.images.smoothing import smooth
from vtadl.metrics.separation import auroc, single_region_aupro
from vtadl.scoring.settings import ScoringSettings
from vtadl.synthesis.takes import TakeVariation
from vtadl.tuning import selection
from vtadl.tuning.selection import choose_settings, split_images


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


def choose(images: torch.Tensor, **fixed: object) -> DictionarySettings:
    extractors = {"energies": LocalEnergies((32, 32), 4), "pixels": Windows((32, 32), 4)}
    return choose_settings(
        Dictionary(extractors, 16), images, DensitySettings(**fixed), ScoringSettings(top_patches=5)
    )


def test_aligned_objects_get_mixtures_of_their_own_and_turned_ones_share():
    fixed = {"descriptor": "pixels", "softness": 0.03, "min_std": 0.1}
    assert choose(aligned_images(60), components=2, **fixed).positions == "own"
    assert choose(turned_images(40), **fixed).positions == "shared"


def test_what_is_given_is_not_chosen():
    fixed = {"descriptor": "energies", "positions": "own", "softness": 0.5, "min_std": 0.7}
    fixed |= {"components": 2, "background": "pictures"}
    assert choose(aligned_images(12), **fixed) == DictionarySettings(**fixed)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_small_sets_get_a_choice_too(count):
    settings = choose(aligned_images(count))
    assert settings.components == 1 or settings.positions == "shared"


def test_the_choice_is_the_same_every_time():
    images = turned_images(20)
    assert choose(images) == choose(images)


def test_an_image_held_out_is_taken_several_times_and_never_judged_by_its_own_takes():
    images = 0.5 * torch.eye(32)[:, None, :, None].expand(-1, 3, -1, 32)  # each is bright in a row of its own
    parts = split_images(Dictionary({"pixels": Windows((32, 32), 4)}, 16), images, seed=0)
    rows = parts.normal.mean((1, 3)).argmax(1).tolist()
    assert len(rows) == 4 * len(set(rows)) == 4 * parts.held_out == 32
    assert set(rows[::2]).isdisjoint(rows[1::2])


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
    noise = torch.rand(48, 1, 40, 40)
    images = (0.5 + smooth(noise, 1.0) - smooth(noise, 2.0))[..., 4:-4, 4:-4].expand(-1, 3, -1, -1)
    fixed = {"descriptor": "energies", "positions": "shared", "softness": 0.03, "min_std": 0.1}
    assert choose(images, components=10, **fixed).background == "pictures"
    assert choose(images, components=10, **(fixed | {"descriptor": "pixels"})).background == "none"


def test_what_imaging_noise_disturbs_is_not_chosen(monkeypatch):
    """Bars on a plain ground lie anywhere: the energies of the ground are those of the camera's noise."""
    noisy_takes = TakeVariation(noise_std=0.05, gain_std=0.02, offset_std=0.005)
    monkeypatch.setattr(selection, "estimate_takes", lambda images: noisy_takes)
    images = turned_images(24, noise=0.003)
    settings = choose(images, softness=0.03, min_std=0.1, positions="shared", components=10)
    assert settings.descriptor == "pixels"
