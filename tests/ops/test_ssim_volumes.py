"""`ssim` of volumes, which run the reference."""

import warnings

import pytest
import torch

from vtadl_ext import reference, ssim

from .comparison import assert_close, check_against_reference, value_and_grads
from .images import EACH_PADDING, random_images, random_mask


@EACH_PADDING
@pytest.mark.parametrize("reduction", ["mean", "none", "map"])
def test_volumes_agree_with_the_reference_in_double(device, reduction, padding):
    images = random_images(2, 2, 9, 8, 10, device=device)
    mask = random_mask(2, 1, 9, 8, 10, device=device)
    options = {"window_size": 5, "padding": padding, "reduction": reduction}
    for given in (None, mask):
        check_against_reference(
            *(ssim, reference.ssim, images),
            **options,
            mask=given,
            value_tolerance=4e-6,
            grad_tolerance=1e-5,
        )


def test_shapes_of_the_results(device):
    x, y = random_images(2, 3, 8, 9, 10, device=device).values()
    assert ssim(x, y, window_size=5).shape == ()
    assert ssim(x, y, window_size=5, reduction="none").shape == (2,)
    assert ssim(x, y, window_size=5, reduction="map").shape == (2, 3, 4, 5, 6)
    assert ssim(x, y, window_size=5, reduction="map", padding="same").shape == x.shape


def test_a_volume_whose_slices_are_equal_has_the_index_of_the_slice(device):
    x, y = random_images(1, 2, 12, 13, device=device).values()
    deep = [image.unsqueeze(2).expand(1, 2, 11, 12, 13) for image in (x, y)]
    assert_close("map", ssim(*deep, reduction="map").squeeze(2), ssim(x, y, reduction="map"), 4e-6)


def test_they_keep_their_digits_far_from_0(device):
    x, y = (100 + 0.05 * image for image in random_images(1, 1, 12, 13, 14, device=device).values())
    expected = reference.ssim(x.double(), y.double(), reduction="map")
    assert_close("map", ssim(x, y, reduction="map"), expected, 4e-6)


def test_masked_voxels_may_hold_anything_and_have_gradient_0(device):
    x, y = random_images(2, 2, 8, 9, 10, device=device).values()
    mask = random_mask(2, 1, 8, 9, 10, device=device)
    value, grads = value_and_grads(
        lambda x, y: ssim(x, y, mask=mask, window_size=5), [x.masked_fill(~mask, torch.nan), y]
    )
    assert_close("value", value, ssim(x, y, mask=mask, window_size=5), 1e-6)
    assert all((grad.masked_select(~mask) == 0).all() and grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_halves_and_autocast_keep_float32_sums(device, dtype):
    x, y = random_images(1, 2, 8, 9, 10, dtype=dtype, device=device).values()
    expected = reference.ssim(x.double(), y.double(), window_size=5)
    with torch.autocast(device.type, dtype):
        value = ssim(x, y, window_size=5)
    assert value.dtype == torch.float32
    assert_close("value", value, expected, 2e-6)


def test_they_compile_and_export(compiled_device):
    torch.compiler.reset()

    class Index(torch.nn.Module):
        def forward(self, x, y, mask):
            return ssim(x, y, mask=mask, window_size=3)

    inputs = (
        *random_images(1, 2, 5, 6, 7, device=compiled_device).values(),
        random_mask(5, 6, 7, device=compiled_device),
    )
    expected = Index()(*inputs)
    compiled = torch.compile(Index(), fullgraph=True, backend="aot_eager")
    assert_close("compiled", compiled(*inputs), expected, 1e-6)
    assert_close("exported", torch.export.export(Index(), inputs).module()(*inputs), expected, 1e-6)


def test_they_have_second_derivatives(device):
    x, y = random_images(1, 1, 4, 3, 4, dtype=torch.float64, device=device).values()
    assert torch.autograd.gradgradcheck(lambda x: ssim(x, y, window_size=3), x.requires_grad_())


def test_nobody_is_warned(device):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ssim(*random_images(1, 1, 11, 12, 13, device=device).values())


def test_a_volume_smaller_than_the_window_is_refused(device):
    volume = torch.zeros(1, 1, 10, 20, 30, device=device)
    message = r"^x must be at least 11 x 11 x 11 pixels for window_size = 11 .*, got 10 x 20 x 30$"
    with pytest.raises(ValueError, match=message):
        ssim(volume, volume)
