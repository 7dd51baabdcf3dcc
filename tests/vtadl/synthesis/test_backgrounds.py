import math

import pytest
import torch

from vtadl.synthesis.backgrounds import pictures_like, textures_like
from vtadl.synthesis.photographs import make_pieces


@pytest.mark.parametrize("size", [(16, 24), (128, 128), (200, 90)])
def test_pieces_of_photographs_have_the_size_that_is_asked_for(size):
    pieces = make_pieces(6, size)
    assert pieces.shape == (6, 3, *size)
    assert pieces.min() >= 0
    assert pieces.max() <= 1
    assert pieces.std((1, 2, 3)).max() > 0.05


def test_pieces_come_from_their_seed():
    assert torch.equal(make_pieces(3, (16, 16), 1), make_pieces(3, (16, 16), 1))
    assert not torch.equal(make_pieces(3, (16, 16), 1), make_pieces(3, (16, 16), 2))


@pytest.mark.parametrize("like", [textures_like, pictures_like])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_for_grey_images_are_grey(like, channels):
    pictures = like(torch.rand(4, 1, 16, 16).expand(-1, channels, -1, -1), 6)
    assert pictures.shape == (6, channels, 16, 16)
    torch.testing.assert_close(pictures, pictures[:, :1].expand_as(pictures))


@pytest.mark.parametrize("like", [textures_like, pictures_like])
def test_pictures_are_no_more_colourful_than_images(like):
    images = torch.rand(4, 1, 16, 16) + 0.01 * torch.randn(4, 3, 16, 16)
    saturation = [(x - x.mean(1, keepdim=True)).square().mean().sqrt() for x in (images, like(images, 20))]
    assert saturation[1] < 1.01 * saturation[0]


@pytest.mark.parametrize(("size", "count"), [((130, 100), 2), ((256, 256), 1), ((300, 140), 1)])
def test_few_large_images_hold_all_textures(size, count):
    images = torch.rand(1, 3, *size)
    mosaics = textures_like(images, 4)
    assert mosaics.shape == (count, 3, *size)
    height, width = (math.ceil(side / math.ceil(side / 128)) for side in size)
    tiles = textures_like(images[..., :height, :width], 4)
    torch.testing.assert_close(mosaics[0][:, :height, :width], tiles[0])
    last = count * (size[0] // height) * (size[1] // width) - 1
    torch.testing.assert_close(mosaics[-1][:, -height:, -width:], tiles[last % 4])


def test_half_of_the_pictures_are_textures():
    images = torch.rand(1, 3, 16, 16)
    textures = textures_like(images, 5)
    pictures = pictures_like(images, 10)
    assert all(any(torch.equal(texture, picture) for picture in pictures) for texture in textures)
