import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vtadl.synthesis.anomalies import KINDS, PseudoAnomalies, make_pseudo_anomalies, visible_change
from vtadl.synthesis.regions import MAX_AREA, local_contrast

SIDES = st.integers(16, 96)
SEEDS = st.integers(0, 2**16)


def normal_images(count: int, size: tuple[int, int], seed: int, channels: int = 3) -> torch.Tensor:
    """Smooth pictures with an edge and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    picture = F.interpolate(
        torch.rand(count, channels, 6, 6, generator=generator), size, mode="bicubic"
    ) + 0.3 * (torch.arange(size[1]) > size[1] // 2)
    return (0.2 + 0.4 * picture + 0.01 * torch.randn(count, channels, *size, generator=generator)).clamp(0, 1)


def assert_masks_hold_what_changed_visibly(images: torch.Tensor, made: PseudoAnomalies) -> None:
    change = (made.images - images).abs().mean(1, keepdim=True)
    visible = torch.stack([visible_change(local_contrast(image)) for image in images])[:, None]
    assert torch.equal(made.masks > 0, change > visible)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(height=SIDES, width=SIDES, seed=SEEDS)
def test_every_kind_changes_what_its_mask_says(kind, height, width, seed):
    images = normal_images(3, (height, width), seed)
    made = make_pseudo_anomalies(images, seed, kinds=[kind])
    assert_masks_hold_what_changed_visibly(images, made)
    assert made.images.min() >= 0
    assert made.images.max() <= 1
    assert set(made.kinds) <= {kind, "contamination"}
    areas = made.masks.flatten(1).sum(1)
    assert areas.min() >= max(4, 0.0005 * height * width)
    assert areas.max() <= max(8, MAX_AREA * height * width + 1)
    touched = (made.images != images).any(1).flatten(1).sum(1)
    assert touched.max() <= max(8, MAX_AREA * height * width + 1)


@settings(max_examples=10, deadline=None)
@given(height=SIDES, width=SIDES, seed=SEEDS)
def test_anomalies_in_grey_images_are_grey(height, width, seed):
    images = normal_images(len(KINDS), (height, width), seed, channels=1).expand(-1, 3, -1, -1)
    made = make_pseudo_anomalies(images, seed).images
    assert torch.equal(made, made[:, :1].expand_as(made))


def test_every_kind_is_made_as_often_as_the_others():
    texture = 0.3 * torch.rand(4 * len(KINDS), 3, 64, 64, generator=torch.Generator().manual_seed(0))
    kinds = make_pseudo_anomalies(normal_images(4 * len(KINDS), (64, 64), 0) + texture).kinds
    counts = [kinds.count(kind) for kind in KINDS]
    assert min(counts) >= 3
    assert max(counts) <= 5


def test_anomalies_depend_on_the_seed_alone():
    images = normal_images(8, (40, 40), 0)
    first, again, other = (make_pseudo_anomalies(images, seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, first[:2], again[:2]))
    assert first.kinds == again.kinds
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_anomalies_of_constant_images_are_visible(level, channels):
    images = torch.full((11, channels, 28, 28), level)
    made = make_pseudo_anomalies(images)
    assert_masks_hold_what_changed_visibly(images, made)
    assert made.masks.flatten(1).sum(1).min() >= 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(28, 28), (20, 300), (1024, 1024)])
def test_a_single_image_of_any_size_is_enough(kind, size):
    made = make_pseudo_anomalies(normal_images(1, size, 0), kinds=[kind])
    assert made.masks.sum() >= max(4, 0.0005 * size[0] * size[1])


def test_many_anomalies_are_faint():
    images = normal_images(110, (64, 64), 0)
    made = make_pseudo_anomalies(images)
    change = ((made.images - images).abs().mean(1, keepdim=True) * made.masks).sum((1, 2, 3))
    strength = change / made.masks.sum((1, 2, 3))
    assert strength.quantile(0.25) < 0.1
    assert strength.max() > 0.2
