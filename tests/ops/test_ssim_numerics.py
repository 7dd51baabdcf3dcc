"""`ssim` where sums of raw squares lose their digits, and where a pixel is no number."""

import math

import pytest
import torch

from vtadl_ext import reference, ssim

from .comparison import dtype_id, value_and_grads
from .images import check_ssim, random_images


def flat_and_nearly_flat():
    x = torch.full((1, 40, 90), 0.6)
    return x, x + 1e-7


def around(offset, noise):
    images = random_images(1, 40, 90)
    return tuple(offset + noise * (image - 0.5) for image in images.values())


def step_edge(width=90):
    return (torch.arange(width) > width // 2).float().expand(1, 40, width)


def ramp(width=90):
    return torch.linspace(0, 1, width).expand(1, 40, width)


def nearly(image, noise):
    return image, image + noise * (random_images(1, 40, 90)["x"] - 0.5)


# Absolute errors of the float32 map, at most.
HARD_IMAGES = {
    "uniform noise": (lambda: tuple(random_images(1, 40, 90).values()), 2e-6),
    "0.9 + 0.01 noise": (lambda: around(0.9, 1e-2), 2e-6),
    "flat 0.6 against 1e-7 more": (flat_and_nearly_flat, 2e-7),
    "100 + 0.05 noise": (lambda: around(100.0, 0.05), 2e-6),
    "1000 + 1 noise": (lambda: around(1000.0, 1.0), 2e-6),
    "black against white": (lambda: (torch.zeros(1, 40, 90), torch.ones(1, 40, 90)), 2e-7),
    "an edge and 0.001 noise": (lambda: nearly(step_edge(), 1e-3), 1e-6),
    "an edge and 1e-5 noise": (lambda: nearly(step_edge(), 1e-5), 1e-7),
    "an edge and its negative": (lambda: (step_edge(), 1 - step_edge()), 2e-6),
    "a ramp and 0.0001 noise": (lambda: nearly(ramp(), 1e-4), 1e-7),
}


@pytest.mark.parametrize(
    ("images", "tolerance"), HARD_IMAGES.values(), ids=[name.replace(" ", "_") for name in HARD_IMAGES]
)
def test_the_float32_map_keeps_its_digits(device, images, tolerance):
    x, y = (image.to(device) for image in images())
    index = ssim(x, y, reduction="map")
    expected = reference.ssim(x.double(), y.double(), reduction="map")
    torch.testing.assert_close(index, expected.float(), rtol=0, atol=tolerance, check_device=False)
    assert index.abs().max() <= 1 + 1e-6


PLAIN_IMAGES = {"noise": random_images(1, 40, 90)["x"], "edge": step_edge(), "ramp": ramp()}


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("image", PLAIN_IMAGES.values(), ids=PLAIN_IMAGES)
def test_equal_images_are_exactly_1_with_gradients_exactly_0(device, image, padding):
    image = image.to(device)
    index, grads = value_and_grads(
        lambda x, y: ssim(x, y, padding=padding, reduction="map"), [image, image.clone()]
    )
    assert (index == 1).all()
    assert all((grad == 0).all() for grad in grads)


# Relative errors of the gradients, at most: where a variance is small beside the squares that it is the
# difference of, it has fewer digits.
@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize(
    ("image", "tolerance"),
    list(zip(PLAIN_IMAGES.values(), (2e-6, 1e-4, 5e-5), strict=True)),
    ids=PLAIN_IMAGES,
)
def test_gradients_of_near_equal_images_keep_their_digits(device, image, tolerance, noise):
    x, y = (image.contiguous().to(device) for image in nearly(image, noise))
    check_ssim({"x": x, "y": y}, reduction="map", grad_tolerance=tolerance)


@pytest.mark.parametrize("offset", [0.9, 100.0])
@pytest.mark.parametrize("reduction", ["mean", "map"])
def test_gradients_keep_their_digits_far_from_0(device, offset, reduction):
    x, y = (image.to(device) for image in around(offset, 0.05))
    check_ssim({"x": x, "y": y}, reduction=reduction, grad_tolerance=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_id)
@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_gradients_of_near_equal_half_precision_images_are_rounded_only_once(device, dtype, noise):
    check_ssim(random_images(2, 20, 70, dtype=dtype, device=device, noise=noise), reduction="map")


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 255.0])
def test_flat_images_have_no_variance_and_finite_gradients(device, value):
    x = torch.full((2, 20, 70), value, device=device)
    y = torch.full_like(x, 0.5)
    index, grads = value_and_grads(lambda x, y: ssim(x, y, reduction="map"), [x, y])
    luminance = (2 * value * 0.5 + 1e-4) / (value**2 + 0.5**2 + 1e-4)
    torch.testing.assert_close(index, torch.full_like(index, luminance), rtol=0, atol=1e-7)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
@pytest.mark.parametrize("where", [(0, 0), (8, 32), (20, 60), (39, 89)], ids=str)
@pytest.mark.parametrize("name", ["x", "y"])
def test_a_pixel_that_is_no_number_spoils_only_the_windows_that_hold_it(device, name, where, bad, padding):
    clean = random_images(2, 40, 90, device=device)
    images = clean | {name: clean[name].clone()}
    images[name][0, where[0], where[1]] = bad
    value, grads = value_and_grads(lambda x, y: ssim(x, y, padding=padding, reduction="map"), images.values())
    expected, expected_grads = value_and_grads(
        lambda x, y: ssim(x, y, padding=padding, reduction="map"), clean.values()
    )
    border = 0 if padding == "valid" else 5
    in_window = torch.zeros_like(value, dtype=torch.bool)
    in_window[0, max(0, where[0] - 10 + border) : where[0] + 1 + border,
              max(0, where[1] - 10 + border) : where[1] + 1 + border] = True  # fmt: skip
    assert value[in_window].isnan().all()
    torch.testing.assert_close(value[~in_window], expected[~in_window], rtol=0, atol=2e-6)

    near = torch.zeros_like(clean["x"], dtype=torch.bool)
    near[0, max(0, where[0] - 10) : where[0] + 11, max(0, where[1] - 10) : where[1] + 11] = True
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert grad[0, where[0], where[1]].isnan()
        torch.testing.assert_close(grad[~near], expected_grad[~near], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("where", [(2, 8), (3, 24), (16, 8), (20, 60)], ids=str)
def test_a_dead_pixel_takes_no_digits_from_windows_that_do_not_hold_it(device, where):
    x, y = random_images(1, 64, 64).values()
    x[0, where[0], where[1]] = 65535.0
    value = ssim(x.to(device), y.to(device), reduction="map").cpu()
    expected = reference.ssim(x.double(), y.double(), reduction="map").float()
    rows, columns = (slice(max(0, at - 10), at + 1) for at in where)
    value[0, rows, columns] = expected[0, rows, columns]
    torch.testing.assert_close(value, expected, rtol=0, atol=5e-6)


def far_from_0():
    x = 100 + 0.05 * torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
    return x, x + 0.02 * torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(1))


def lower_rows_valid(*others):
    mask = torch.arange(64)[:, None].expand(64, 64) >= 16
    for row, column in others:
        mask = mask.index_put((torch.tensor(row), torch.tensor(column)), torch.tensor(True))
    return mask


def with_pixels(value, *where):
    x, y = far_from_0()
    for at in where:
        x[0][at] = value
    return x, y


# Images and options that could mislead the pivot of a tile.
MISLEADING = {
    "a mask that leaves the halo": (far_from_0, {"mask": lower_rows_valid()}),
    "one other pixel that is valid": (lambda: with_pixels(0.0, (0, 0)), {"mask": lower_rows_valid((0, 0))}),
    "a pixel that is no number": (lambda: with_pixels(math.nan, (50, 8), (19, 8)), {}),
    "dead pixels": (lambda: with_pixels(65535.0, (2, 8), (6, 8)), {}),
    "a dead column": (lambda: with_pixels(65535.0, (slice(None), 8)), {}),
    "zeros around the image": (far_from_0, {"padding": "same"}),
    "zeros around a smaller window": (far_from_0, {"padding": "same", "window_size": 7}),
}


@pytest.mark.parametrize(
    ("images", "options"), MISLEADING.values(), ids=[name.replace(" ", "_") for name in MISLEADING]
)
def test_pivots_are_near_the_windows(device, images, options):
    x, y = (image.to(device) for image in images())
    options = {name: o.to(device) if name == "mask" else o for name, o in options.items()}
    index = ssim(x, y, reduction="map", **options).double()
    expected = reference.ssim(x.double(), y.double(), reduction="map", **options)
    ordinary = torch.nn.functional.max_pool2d((x - 100).nan_to_num(1e9).abs(), 11, 1) < 1e3
    if expected.shape == ordinary.shape:  # windows that hold what is no ordinary pixel have their own errors
        index, expected = index[ordinary], expected[ordinary]
    torch.testing.assert_close(index, expected, rtol=0, atol=2e-6)
