import math

import pytest
import torch

from vtadl.synthesis.backgrounds import make_backgrounds, make_texture_backgrounds
from vtadl.synthesis.photographs import crop_photographs


@pytest.mark.parametrize("size", [(16, 24), (128, 128), (200, 90)])
def test_crops_of_photographs_have_the_requested_size(size):
    crops = crop_photographs(6, size)
    assert crops.shape == (6, 3, *size)
    assert crops.min() >= 0
    assert crops.max() <= 1
    assert crops.std((1, 2, 3)).max() > 0.05


def test_crops_depend_on_the_seed_alone():
    assert torch.equal(crop_photographs(3, (16, 16), 1), crop_photographs(3, (16, 16), 1))
    assert not torch.equal(crop_photographs(3, (16, 16), 1), crop_photographs(3, (16, 16), 2))


@pytest.mark.parametrize("make", [make_texture_backgrounds, make_backgrounds])
@pytest.mark.parametrize("channels", [1, 3])
def test_backgrounds_of_grey_images_are_grey(make, channels):
    backgrounds = make(torch.rand(4, 1, 16, 16).expand(-1, channels, -1, -1), 6)
    assert backgrounds.shape == (6, channels, 16, 16)
    torch.testing.assert_close(backgrounds, backgrounds[:, :1].expand_as(backgrounds))


@pytest.mark.parametrize("make", [make_texture_backgrounds, make_backgrounds])
def test_backgrounds_are_no_more_saturated_than_the_images(make):
    images = torch.rand(4, 1, 16, 16) + 0.01 * torch.randn(4, 3, 16, 16)
    saturation = [(x - x.mean(1, keepdim=True)).square().mean().sqrt() for x in (images, make(images, 20))]
    assert saturation[1] < 1.01 * saturation[0]


@pytest.mark.parametrize(("size", "count"), [((130, 100), 2), ((256, 256), 1), ((300, 140), 1)])
def test_mosaics_of_large_images_hold_all_textures(size, count):
    images = torch.rand(1, 3, *size)
    mosaics = make_texture_backgrounds(images, 4)
    assert mosaics.shape == (count, 3, *size)
    height, width = (math.ceil(side / math.ceil(side / 128)) for side in size)
    tiles = make_texture_backgrounds(images[..., :height, :width], 4)
    torch.testing.assert_close(mosaics[0][:, :height, :width], tiles[0])
    last = count * (size[0] // height) * (size[1] // width) - 1
    torch.testing.assert_close(mosaics[-1][:, -height:, -width:], tiles[last % 4])


def test_half_of_the_backgrounds_are_textures():
    images = torch.rand(1, 3, 16, 16)
    textures = make_texture_backgrounds(images, 5)
    backgrounds = make_backgrounds(images, 10)
    assert all(any(torch.equal(texture, image) for image in backgrounds) for texture in textures)
