"""`ssim` and its gradients against the float64 reference, and under changes that should not matter."""

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from vtadl_ext import ssim

from .comparison import DTYPES, LAYOUTS, assert_close, dtype_id, value_and_grads
from .images import EACH_PADDING, check_ssim, random_images

SIZES = [(11, 11), (11, 12), (12, 37), (16, 64), (27, 75), (65, 130)]
WINDOWS = pytest.mark.parametrize("window", ["gaussian", "uniform"])
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "none", "map"])


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
def test_sizes_agree_with_the_reference(device, size, dtype):
    check_ssim(random_images(2, *size, dtype=dtype, device=device), reduction="map")


@WINDOWS
@EACH_PADDING
@pytest.mark.parametrize("window_size", [3, 7, 11, 31])
def test_windows_agree_with_the_reference(device, window_size, padding, window):
    images = random_images(1, 1, 32, 43, device=device)
    check_ssim(images, window_size=window_size, window=window, padding=padding, reduction="map")


@REDUCTIONS
@EACH_PADDING
@pytest.mark.parametrize("shape", [(2, 3, 19, 24), (3, 19, 24)], ids=["NCHW", "CHW"])
def test_reductions_agree_with_the_reference(device, shape, padding, reduction):
    check_ssim(random_images(*shape, device=device), padding=padding, reduction=reduction)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=dtype_id)
def test_means_agree_with_the_reference_in_every_dtype(device, dtype, reduction):
    check_ssim(random_images(2, 3, 19, 24, dtype=dtype, device=device), reduction=reduction)


@pytest.mark.parametrize(
    "options",
    [{"data_range": 255.0}, {"data_range": 2}, {"window_sigma": 0.5}, {"k1": 0.5}, {"k2": 0.3}],
    ids=lambda options: "{}={}".format(*next(iter(options.items()))),
)
def test_numbers_reach_the_formula(device, options):
    images = random_images(2, 16, 20, device=device)
    check_ssim(images, **options)
    assert not torch.allclose(ssim(*images.values(), **options), ssim(*images.values()), rtol=1e-4)


def test_numbers_of_numpy_are_numbers(device):
    x, y = random_images(2, 20, 30, device=device).values()
    options = {"data_range": 2.0, "window_sigma": 1.25, "k1": 0.0625}
    expected = ssim(x, y, window_size=7, **options)
    actual = ssim(x, y, window_size=np.int64(7), **{name: np.float32(n) for name, n in options.items()})
    assert torch.equal(actual, expected)


@EACH_PADDING
def test_shapes_of_the_results(device, padding):
    x, y = random_images(2, 3, 19, 24, device=device).values()
    size = (9, 14) if padding == "valid" else (19, 24)
    assert ssim(x, y, padding=padding).shape == ()
    assert ssim(x, y, padding=padding, reduction="none").shape == (2,)
    assert ssim(x[0], y[0], padding=padding, reduction="none").shape == ()
    assert ssim(x, y, padding=padding, reduction="map").shape == (2, 3, *size)
    assert ssim(x[0], y[0], padding=padding, reduction="map").shape == (3, *size)


def test_the_means_are_means_of_the_map(device):
    x, y = random_images(2, 3, 40, 90, device=device).values()
    full = ssim(x, y, reduction="map")
    assert_close("mean", ssim(x, y), full.mean(), 1e-6)
    assert_close("means", ssim(x, y, reduction="none"), full.mean((1, 2, 3)), 1e-6)


@WINDOWS
@pytest.mark.parametrize("window_size", range(3, 33, 2))
def test_every_window_size_agrees_with_the_reference(device, window_size, window):
    images = random_images(1, 1, 33, 36, device=device)
    check_ssim(images, window_size=window_size, window=window, window_sigma=window_size / 6)


@pytest.mark.parametrize("window_sigma", [0.05, 0.3, 0.9, 3.0, 20.0, 1e6])
def test_every_sigma_agrees_with_the_reference(device, window_sigma):
    # Narrow windows have next to no variance, and gradients to match.
    tolerances = {"value_tolerance": 1e-5, "grad_tolerance": 5e-5}
    check_ssim(random_images(2, 19, 24, device=device), window_sigma=window_sigma, **tolerances)


@EACH_PADDING
@pytest.mark.parametrize("data_range", [1e-6, 1e-3, 255.0, 1e6])
def test_the_data_range_is_a_unit(device, data_range, padding):
    images = random_images(2, 19, 24, device=device).values()
    value, grads = value_and_grads(lambda x, y: ssim(x, y, padding=padding), images)
    scaled, scaled_grads = value_and_grads(
        lambda x, y: ssim(x, y, padding=padding, data_range=data_range),
        [data_range * image for image in images],
    )
    assert_close("value", scaled, value, 4e-6)
    for name, grad, expected in zip("xy", scaled_grads, grads, strict=True):
        assert_close(f"gradient of {name}", data_range * grad, expected, 2e-5)


def test_same_padding_surrounds_the_image_with_zeros(device):
    x, y = random_images(1, 20, 24, device=device).values()
    bordered = ssim(pad(x, [5] * 4), pad(y, [5] * 4), reduction="map")
    assert_close("map", ssim(x, y, padding="same", reduction="map"), bordered, 1e-6)


@EACH_PADDING
@REDUCTIONS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=dtype_id)
@pytest.mark.parametrize("size", [(11, 11), (17, 70)], ids=lambda size: "{}x{}".format(*size))
def test_equal_images_have_index_1_and_no_gradient(device, size, dtype, reduction, padding):
    x = random_images(2, 3, *size, dtype=dtype, device=device)["x"]
    value, grads = value_and_grads(
        lambda x, y: ssim(x, y, padding=padding, reduction=reduction), [x, x.clone()]
    )
    torch.testing.assert_close(value, torch.ones_like(value), rtol=0, atol=1e-6)
    # The gradients of images that differ have elements around 1 / numel.
    windows = 1 if reduction == "map" else x.numel()
    for grad in grads:
        assert grad.abs().max() * windows < 2e-4


def test_the_index_is_symmetric_with_gradients_exchanged(device):
    x, y = random_images(2, 19, 24, device=device).values()
    value, (grad_x, grad_y) = value_and_grads(ssim, [x, y])
    exchanged, (exchanged_grad_y, exchanged_grad_x) = value_and_grads(ssim, [y, x])
    assert_close("value", exchanged, value, 1e-6)
    assert_close("gradient of x", exchanged_grad_x, grad_x, 1e-5)
    assert_close("gradient of y", exchanged_grad_y, grad_y, 1e-5)


def test_an_image_compared_with_itself_sums_both_gradients(device):
    x = random_images(2, 19, 24, device=device)["x"].requires_grad_()
    (grad,) = torch.autograd.grad(ssim(x, 1 - x), x)
    _, (of_first, of_second) = value_and_grads(ssim, [x, (1 - x).detach()])
    upstream = torch.tensor(1.0).cos().to(device)
    assert_close("gradient", grad, (of_first - of_second) / upstream, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=dtype_id)
@pytest.mark.parametrize(
    "layout",
    [*LAYOUTS.values(), lambda image: image.contiguous(memory_format=torch.channels_last)],
    ids=[*LAYOUTS, "channels_last"],
)
@pytest.mark.parametrize("names", ["x", "y", "xy"])
def test_strides_do_not_matter(device, names, layout, dtype):
    images = random_images(2, 3, 19, 24, dtype=dtype, device=device)
    relaid = {name: layout(image) if name in names else image for name, image in images.items()}
    for padding in ("valid", "reflect"):
        value, grads = value_and_grads(lambda x, y, p=padding: ssim(x, y, padding=p), images.values())
        relaid_value, relaid_grads = value_and_grads(
            lambda x, y, p=padding: ssim(x, y, padding=p), relaid.values()
        )
        assert torch.equal(relaid_value, value)
        for name, grad, relaid_grad in zip("xy", grads, relaid_grads, strict=True):
            assert torch.equal(relaid_grad, grad), name


def test_expanded_images_get_a_gradient_for_each_element(device):
    images = random_images(2, 3, 19, 24, device=device)
    images["x"] = images["x"][:1].expand(2, 3, 19, 24)
    check_ssim(images, reduction="none")


@EACH_PADDING
@REDUCTIONS
@pytest.mark.parametrize("shape", [(0, 3, 19, 24), (2, 0, 19, 24), (0, 19, 24)], ids=str)
def test_no_planes_have_an_empty_result(device, shape, reduction, padding):
    images = [torch.zeros(shape, device=device) for _ in "xy"]
    value, grads = value_and_grads(lambda x, y: ssim(x, y, padding=padding, reduction=reduction), images)
    size = (9, 14) if padding == "valid" else (19, 24)
    expected = {"mean": (), "none": shape[:-3], "map": (*shape[:-2], *size)}[reduction]
    assert value.shape == expected
    assert value.isnan().all()  # means of nothing
    assert all(grad.shape == shape for grad in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@REDUCTIONS
def test_repeated_runs_give_the_same_bits(device, reduction, dtype):
    images = random_images(2, 2, 50, 140, dtype=dtype, device=device).values()

    def run():
        value, grads = value_and_grads(lambda x, y: ssim(x, y, reduction=reduction), images)
        return [value, *grads]

    threads = torch.get_num_threads()
    first = run()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert all(torch.equal(again, before) for again, before in zip(run(), first, strict=True))
    finally:
        torch.set_num_threads(threads)


@EACH_PADDING
def test_images_are_not_changed(device, padding):
    images = random_images(2, 19, 24, device=device)
    before = {name: image.clone() for name, image in images.items()}
    value_and_grads(lambda x, y: ssim(x, y, padding=padding), images.values())
    assert all(torch.equal(images[name], before[name]) for name in images)
