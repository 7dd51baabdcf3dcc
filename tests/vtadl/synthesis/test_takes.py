import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vtadl.synthesis.noise import estimate_noise
from vtadl.synthesis.takes import TakeVariation, estimate_takes, vary_takes


def smooth_images(count: int, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    picture = F.interpolate(torch.rand(count, 1, 4, 4, generator=generator), (side, side), mode="bicubic")
    return 0.3 + 0.3 * picture.expand(-1, 3, -1, -1)


@settings(max_examples=30, deadline=None)
@given(noise_std=st.floats(0.005, 0.1), seed=st.integers(0, 2**16))
def test_the_noise_of_smooth_images_is_found(noise_std, seed):
    noise = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        estimate_noise(smooth_images(2) + noise_std * noise), torch.full((2,), noise_std), rtol=0.1, atol=1e-3
    )


@pytest.mark.parametrize("noise_std", [0.003, 0.01])
def test_the_noise_of_rounded_images_is_found(noise_std):
    images = (255 * (smooth_images(4) + noise_std * torch.randn(4, 1, 64, 64))).round() / 255
    torch.testing.assert_close(estimate_noise(images), torch.full((4,), noise_std), rtol=0.2, atol=0)


def test_a_picture_that_is_mostly_constant_has_no_noise():
    images = torch.zeros(3, 1, 28, 28)
    images[..., 8:20, 12:16] = torch.rand(3, 1, 12, 4)
    assert estimate_noise(images).max() == 0
    variation = estimate_takes(images)._replace(gain_std=0.0, offset_std=0.0)
    assert torch.equal(vary_takes(images, variation), images)


def test_the_brightness_of_takes_varies_as_that_of_the_images():
    gain = 1 + 0.05 * torch.randn(200, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    assert estimate_takes(smooth_images(1) * gain).gain_std == pytest.approx(0.05, rel=0.2)


def test_equal_images_are_given_a_little_variation():
    variation = estimate_takes(smooth_images(1))
    assert 0 < variation.gain_std < 0.05
    assert 0 < variation.offset_std < 0.02


def test_a_take_is_the_same_image_but_for_gain_offset_and_noise():
    images = smooth_images(6)
    varied = vary_takes(images, TakeVariation(noise_std=0.01, gain_std=0.03, offset_std=0.01))
    for image, take in zip(images[:, 0].flatten(1), varied[:, 0].flatten(1), strict=True):
        slope = torch.cov(torch.stack([image, take]))[0, 1] / image.var()
        assert 0 < abs(slope - 1) < 0.07
        assert 0 < (take - slope * image).std() < 0.0105
    assert torch.equal(varied, varied[:, :1].expand_as(varied))


def test_takes_depend_on_the_seed_alone():
    images, variation = smooth_images(4), TakeVariation(0.01, 0.03, 0.01)
    assert torch.equal(vary_takes(images, variation, 1), vary_takes(images, variation, 1))
    assert not torch.equal(vary_takes(images, variation, 1), vary_takes(images, variation, 2))
