import torch

from vtadl.synthesis.textures import make_textures


def test_textures_vary_in_brightness_and_contrast():
    textures = make_textures(40, (24, 32))
    assert textures.shape == (40, 3, 24, 32)
    assert textures.min() >= 0
    assert textures.max() <= 1
    brightness, contrast = textures.mean((1, 2, 3)), textures.std((2, 3)).mean(1)
    assert brightness.min() < 0.3
    assert brightness.max() > 0.7
    assert contrast.max() > 5 * contrast.min() > 0


def test_some_textures_are_rough_and_others_are_smooth():
    textures = make_textures(40, (32, 32)).mean(1)
    roughness = textures.diff(dim=2).std((1, 2)) / textures.std((1, 2))
    assert roughness.min() < 0.5
    assert roughness.max() > 1


def test_textures_depend_on_the_seed_alone():
    assert torch.equal(make_textures(3, (16, 16), 1), make_textures(3, (16, 16), 1))
    assert not torch.equal(make_textures(3, (16, 16), 1), make_textures(3, (16, 16), 2))
