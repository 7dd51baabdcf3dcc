import pytest
import torch
import torch.nn.functional as F

from vtadl.errors import InputError
from vtadl.features.energies import LocalEnergies, MultiscaleEnergies, cosine_filters
from vtadl.images.smoothing import smooth


@pytest.fixture
def energies():
    extractor = LocalEnergies((16, 24), 4)
    extractor.fit(torch.rand(8, 3, 16, 24))
    return extractor


def test_filters_are_orthonormal_and_have_no_mean():
    filters = cosine_filters(3).flatten(1)
    torch.testing.assert_close(filters @ filters.T, torch.eye(8))
    torch.testing.assert_close(filters.sum(1), torch.zeros(8), atol=1e-6, rtol=0)


def test_each_channel_has_its_mean_and_its_energies_at_each_position(energies):
    images = torch.rand(2, 3, 16, 24)
    images[:, 1] = 0.25
    features = energies(images).unflatten(2, (3, 9))
    assert energies.grid == (4, 6)
    assert features.shape == (2, 24, 3, 9)
    torch.testing.assert_close(features[:, :, 1, 0], torch.full((2, 24), 0.25))
    flat = energies.floor[1].log().expand(2, 24, 8)
    torch.testing.assert_close(features[:, :, 1, 1:], flat, atol=1e-3, rtol=0)
    assert (features[:, :, 0, 1:] > energies.floor[0].log() + 1).all()


def test_energies_are_those_of_the_filters(energies):
    image = torch.rand(1, 1, 16, 24).expand(-1, 3, -1, -1)
    windows = F.pad(image[:, :1], (1,) * 4, mode="reflect").unfold(2, 3, 1).unfold(3, 3, 1)
    responses = torch.einsum("bchwij,kij->kbhw", windows, cosine_filters(3)[:, 0])
    local = F.avg_pool2d(smooth(responses.square(), 1.0), 2)
    expected = F.avg_pool2d(smooth((local + energies.floor[0]).log(), 0.5), 2)
    torch.testing.assert_close(energies(image)[..., 1:9], expected.flatten(1)[None].transpose(1, 2))


def test_twice_the_contrast_is_the_same_step_everywhere(energies):
    image = 0.5 * torch.rand(1, 3, 16, 24)
    energies.floor.fill_(1e-12)
    step = (energies(2 * image) - energies(image)).unflatten(2, (3, 9))[..., 1:]
    torch.testing.assert_close(step, torch.full_like(step, 2 * torch.tensor(2.0).log()), atol=1e-3, rtol=0)


def test_a_change_is_seen_where_it_is(energies):
    image = torch.rand(1, 3, 16, 24)
    changed = image.clone()
    changed[..., 9:11, 17:19] = 0.5
    difference = (energies(changed) - energies(image)).abs().amax(2)[0].view(4, 6)
    assert difference[2, 4] == difference.max()
    assert difference[:, :2].max() == 0


def test_a_stride_that_does_not_divide_the_image_is_named():
    with pytest.raises(InputError, match="not a multiple of stride 5"):
        LocalEnergies((16, 24), 5)


def test_energies_at_two_scales_are_those_of_the_image_and_of_its_half():
    images, extractor = torch.rand(4, 3, 16, 24), MultiscaleEnergies((16, 24), 4)
    fine, coarse = LocalEnergies((16, 24), 4), LocalEnergies((8, 12), 2)
    halves = images.unflatten(2, (8, 2)).unflatten(4, (12, 2)).mean((3, 5))
    for features, x in ((extractor, images), (fine, images), (coarse, halves)):
        features.fit(x)
    assert extractor.grid == fine.grid == coarse.grid == (4, 6)
    torch.testing.assert_close(extractor(images), torch.cat([fine(images), coarse(halves)], dim=2))


@pytest.mark.parametrize(("size", "stride"), [((15, 24), 1), ((16, 24), 1)])
def test_energies_at_two_scales_need_even_sizes(size, stride):
    with pytest.raises(InputError, match=f"stride {stride} have to be even"):
        MultiscaleEnergies(size, stride)
