"""The accuracy that docs/ssim.md states, on every photograph of scikit-image with noise."""

import re
from pathlib import Path

import pytest
import torch

from vtadl_ext import reference, ssim

from .comparison import dtype_id
from .photographs import PHOTOGRAPHS, noisy, photograph

WINDOWS = {
    "Gaussian, sigma 1.5": {},
    "Gaussian, sigma 1": {"window_sigma": 1.0},
    "Gaussian, sigma 0.5": {"window_sigma": 0.5},
    "uniform, 7 x 7": {"window": "uniform", "window_size": 7},
    "uniform, 11 x 11": {"window": "uniform", "window_size": 11},
}
ROW = re.compile(r"^\| (\S.*?) \| (float\d\d) \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|$", flags=re.MULTILINE)
STATED = {
    (window, dtype): tuple(map(float, errors))
    for window, dtype, *errors in ROW.findall((Path(__file__).parents[2] / "docs" / "ssim.md").read_text())
}
HALVES = {torch.bfloat16: 4.5e-3, torch.float16: 5.5e-4}


def errors_on(x, y, options, device):
    """The errors of the mean, of the map (relative in the L2 norm, and the largest) and of the gradients."""

    def evaluate(function, dtype):
        images = [image.to(device, dtype).requires_grad_() for image in (x, y)]
        index = function(*images, **options, reduction="map")
        grads = torch.autograd.grad(index.mean(), images)
        return (
            function(*images, **options).detach().double(),
            index.detach().double(),
            torch.stack(grads).double(),
        )

    mean, index, grads = evaluate(ssim, x.dtype)
    expected_mean, expected, expected_grads = evaluate(reference.ssim, torch.float64)
    difference = index - expected
    return (
        (mean - expected_mean).abs().item(),
        (difference.norm() / expected.norm()).item(),
        difference.abs().max().item(),
        ((grads - expected_grads).norm() / expected_grads.norm()).item(),
    )


def pixels(name, dtype, side=192):
    image = photograph(name, side)
    return [(each.double() / 255).to(dtype) for each in (image, noisy(image))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=dtype_id)
@pytest.mark.parametrize("window", WINDOWS)
def test_each_row_of_the_table_of_accuracies_holds(real_device, window, dtype):
    stated = STATED[window, dtype_id(dtype)]
    for name in PHOTOGRAPHS:
        errors = errors_on(*pixels(name, dtype), WINDOWS[window], real_device)
        assert all(error <= limit for error, limit in zip(errors, stated, strict=True)), (name, errors)


def test_the_table_has_every_window_and_dtype():
    assert set(STATED) == {(window, dtype) for window in WINDOWS for dtype in ("float32", "float64")}


@pytest.mark.parametrize("window", WINDOWS)
def test_the_emulated_kernels_are_as_accurate(device, window):
    for name in ("coffee", "astronaut"):
        errors = errors_on(*pixels(name, torch.float32, side=72), WINDOWS[window], device)
        stated = STATED[window, "float32"]
        assert all(error <= 3 * limit for error, limit in zip(errors, stated, strict=True)), (name, errors)


@pytest.mark.parametrize("dtype", HALVES, ids=dtype_id)
def test_half_precision_rounds_gradients_once(real_device, dtype):
    *stated, _ = STATED["Gaussian, sigma 1.5", "float32"]
    for name in PHOTOGRAPHS:
        x, y = pixels(name, dtype)
        # Gradients of sums are normal numbers.
        *errors, _ = errors_on(x, y, {}, real_device)
        assert all(error <= limit for error, limit in zip(errors, stated, strict=True)), (name, errors)
        images = [image.to(real_device).requires_grad_() for image in (x, y)]
        doubles = [image.detach().double().requires_grad_() for image in images]
        grads = torch.autograd.grad(ssim(*images, reduction="map").sum(), images)
        expected = torch.autograd.grad(reference.ssim(*doubles, reduction="map").sum(), doubles)
        for grad, expected_grad in zip(grads, expected, strict=True):
            assert (grad.double() - expected_grad).norm() <= HALVES[dtype] * expected_grad.norm(), name


@pytest.mark.parametrize("window", WINDOWS)
def test_bytes_are_as_accurate_as_float32(real_device, window):
    options = WINDOWS[window]
    _, in_map, largest, _ = STATED[window, "float32"]
    for name in PHOTOGRAPHS:
        x = photograph(name, 192).to(real_device)
        y = noisy(photograph(name, 192)).to(real_device)
        index = ssim(x, y, **options, reduction="map").double()
        expected = reference.ssim(x.double(), y.double(), data_range=255.0, **options, reduction="map")
        assert (index - expected).norm() <= in_map * expected.norm(), name
        assert (index - expected).abs().max() <= largest, name
