"""`ms_ssim` against the reference, and at the ends of its range. test_ssim_libraries.py has its peer."""

from functools import partial

import pytest
import torch
from torch.func import grad, vmap

from vtadl_ext import ms_ssim, reference

from .comparison import DTYPES, assert_close, assert_same_bits, dtype_id, value_and_grads
from .images import check_ssim, random_images

small = partial(ms_ssim, window_size=3)
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "none"])


@REDUCTIONS
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_it_agrees_with_the_reference(device, dtype, reduction):
    images = random_images(2, 3, 33, 38, dtype=dtype, device=device)
    if dtype == torch.float16:
        images = {name: image[:1, :1] for name, image in images.items()}  # gradients are normal numbers
    check_ssim(images, ms_ssim, reference.ms_ssim, window_size=3, reduction=reduction)


@pytest.mark.parametrize(
    "options",
    [
        {"weights": (0.5, 0.5)},
        {"weights": [1.0]},
        {"data_range": 4.0},
        {"window": "uniform"},
        {"window_sigma": 0.7},
        {"k1": 1.0},
        {"k2": 0.1},
    ],
    ids=str,
)
def test_options_reach_the_formula(device, options):
    images = random_images(2, 36, 35, device=device)
    check_ssim(images, ms_ssim, reference.ms_ssim, window_size=3, **options)
    assert not torch.allclose(small(**images, **options), small(**images), rtol=1e-6)


def test_one_scale_is_the_mean_index_of_each_channel(device):
    x, y = random_images(2, 3, 16, 17, device=device).values()
    assert_close("value", ms_ssim(x, y, weights=[1]), reference.ssim(x, y), 2e-6)


def test_equal_images_have_index_1_and_finite_gradients(device):
    x = random_images(2, 3, 33, 38, device=device)["x"]
    value, grads = value_and_grads(small, [x, x.clone()])
    torch.testing.assert_close(value.item(), 1.0, rtol=0, atol=1e-6)
    # The gradients of images that differ have elements around 1 / numel.
    assert all(grad.abs().max() * x.numel() < 1e-2 for grad in grads)


@REDUCTIONS
@pytest.mark.parametrize(
    "opposite",
    [lambda x: 1 - x, lambda x: -x, lambda x: (x < 0.5).to(x), torch.zeros_like],
    ids=["negative", "minus", "threshold", "black"],
)
def test_opposite_images_have_finite_gradients(device, opposite, reduction):
    x = random_images(2, 3, 33, 38, device=device)["x"]
    value, grads = value_and_grads(partial(small, reduction=reduction), [x, opposite(x)])
    assert (value >= 0).all()
    assert (value < 0.5).all()
    assert all(grad.isfinite().all() for grad in grads)


def test_a_channel_whose_mean_is_negative_has_no_gradient(device):
    x, y = random_images(1, 2, 33, 38, device=device).values()
    y[:, 0] = 1 - x[:, 0]
    value, grads = value_and_grads(small, [x, y])
    assert all(not grad[:, 0].any() and grad[:, 1].any() for grad in grads)
    assert_close("value", value, small(x[:, 1:], y[:, 1:]) / 2, 2e-6)


def test_no_images_have_an_empty_result(device):
    images = [torch.zeros(0, 3, 33, 38, device=device) for _ in "xy"]
    for reduction, expected in (("mean", ()), ("none", (0,))):
        value, grads = value_and_grads(partial(small, reduction=reduction), images)
        assert value.shape == expected
        assert value.isnan().all()
        assert all(grad.shape == (0, 3, 33, 38) for grad in grads)


def test_gradients_are_those_of_finite_differences(device):
    images = random_images(1, 5, 6, dtype=torch.float64, device=device).values()
    function = partial(small, weights=(0.4, 0.6))
    assert torch.autograd.gradcheck(function, [image.requires_grad_() for image in images], nondet_tol=1e-12)


def test_channels_last_gradients_keep_their_strides(device):
    images = random_images(2, 3, 33, 38, device=device).values()
    expected, expected_grads = value_and_grads(small, images)
    relaid = [image.contiguous(memory_format=torch.channels_last) for image in images]
    value, grads = value_and_grads(small, relaid)
    assert_close("value", value, expected, 1e-6)
    for name, grad_of_relaid, expected_grad in zip("xy", grads, expected_grads, strict=True):
        assert grad_of_relaid.is_contiguous(memory_format=torch.channels_last)
        assert_close(f"gradient of {name}", grad_of_relaid, expected_grad, 1e-5)


def test_it_compiles_whole_and_exports(compiled_device):
    torch.compiler.reset()
    images = tuple(random_images(2, 1, 33, 38, device=compiled_device).values())
    value, grads = value_and_grads(torch.compile(small, fullgraph=True, backend="aot_eager"), images)
    expected, expected_grads = value_and_grads(small, images)
    assert_close("value", value, expected, 1e-6)
    for name, compiled_grad, expected_grad in zip("xy", grads, expected_grads, strict=True):
        assert_close(f"gradient of {name}", compiled_grad, expected_grad, 1e-5)

    class Index(torch.nn.Module):
        def forward(self, x, y):
            return small(x, y)

    program = torch.export.export(Index(), images)
    assert_close("exported", program.module()(*images), expected, 1e-6)


def test_vmap_is_a_loop(compiled_device):
    x, y = random_images(3, 2, 33, 38, device=compiled_device).values()
    expected = small(x, y, reduction="none")
    assert_close("value", vmap(small)(x, y), expected, 1e-6)
    of_batch = vmap(grad(small))(x, y)
    of_loop = torch.stack([grad(small)(*pair) for pair in zip(x, y, strict=True)])
    assert_close("gradient of x", of_batch, of_loop, 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_id)
def test_autocast_changes_nothing(device, dtype):
    x, y = random_images(1, 2, 33, 38, device=device).values()
    with torch.autocast(device.type, dtype):
        value = small(x, y.to(dtype))
    assert value.dtype == torch.float32
    assert_close("value", value, small(x, y.to(dtype).float()), 1e-6)


def test_repeated_runs_give_the_same_bits(device):
    images = random_images(2, 2, 40, 70, device=device).values()
    assert_same_bits(small, images)


@pytest.mark.parametrize(
    ("shape", "options", "smallest", "reason"),
    [
        ((1, 160, 200), {}, 161, "window_size = 11 and scales = 5"),
        ((1, 200, 160), {}, 161, "window_size = 11 and scales = 5"),
        ((1, 40, 32), {"window_size": 3}, 33, "window_size = 3 and scales = 5"),
        ((1, 4, 40), {"window_size": 3, "weights": (0.5, 0.5)}, 5, "window_size = 3 and scales = 2"),
    ],
)
def test_images_too_small_for_the_scales_are_refused(device, shape, options, smallest, reason):
    image = torch.zeros(shape, device=device)
    message = f"^x must be at least {smallest} x {smallest} pixels for {reason}, got {shape[1]} x {shape[2]}$"
    with pytest.raises(ValueError, match=message):
        ms_ssim(image, image, **options)
    image = torch.zeros(1, smallest, smallest, device=device)
    torch.testing.assert_close(ms_ssim(image, image, **options).item(), 1.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (TypeError, r"weights must be a sequence of numbers, got 1\.0", {"weights": 1.0}),
        (TypeError, r"weights\[1\] must be a number, got '1'", {"weights": [1.0, "1"]}),
        (ValueError, r"weights\[0\] must be finite and positive, got -1", {"weights": [-1]}),
        (ValueError, r"weights\[0\] must be finite and positive, got 0", {"weights": [0]}),
        (ValueError, r"weights must hold one number or more", {"weights": []}),
        (ValueError, r"reduction must be 'mean', 'sum' or 'none', got 'map'", {"reduction": "map"}),
        (ValueError, r"k1 must be finite and positive, got 0", {"k1": 0}),
    ],
)
def test_options_that_do_not_fit_are_refused(device, error, message, options):
    image = torch.zeros(1, 33, 33, device=device)
    with pytest.raises(error, match=f"^{message}"):
        ms_ssim(image, image, **options)


def test_volumes_are_refused(device):
    volume = torch.zeros(1, 1, 33, 33, 33, device=device)
    with pytest.raises(
        ValueError, match=r"^x must have shape \[N, C, H, W\] or \[C, H, W\] or \[H, W\], got"
    ):
        ms_ssim(volume, volume)


def test_images_without_channels_are_refused(device):
    x = torch.rand(2, 0, 161, 161, device=device)
    with pytest.raises(ValueError, match=r"x must have at least one channel, got \[2, 0, 161, 161\]"):
        ms_ssim(x, x)
