"""The windows of `ssim` beyond squares of the usual sizes, its components, and covariances of samples."""

import numpy as np
import pytest
import scipy.ndimage
import skimage.metrics
import torch

from vtadl_ext import SSIMLoss, ms_ssim, reconstruction_loss, reference, ssim, use_reference

from .comparison import DTYPES, assert_close, dtype_id
from .images import EACH_PADDING, check_ssim, random_images, random_mask

REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none", "map"])
WINDOWS = {
    "wide": {"window_size": (3, 11)},
    "high": {"window_size": (11, 5), "window": "uniform"},
    "two sigmas": {"window_sigma": (0.8, 3.0)},
    "two sizes and sigmas": {"window_size": (7, 11), "window_sigma": (1.0, 2.5)},
    "taps": {"window": (1, 2, 4, 2, 1)},
    "eleven taps": {"window": (1, 1, 1, 2, 2, 3, 2, 2, 1, 1, 1)},
    "taps of each axis": {"window": ((1, 2, 1), (1, 1, 3, 3, 3, 1, 1))},
    "eleven taps of each axis": {"window": ((1, 1, 1, 2, 2, 3, 2, 2, 1, 1, 1), (1,) * 11)},
    "larger than the kernels'": {"window_size": 33, "window_sigma": 6.0},
}
EACH_WINDOW = pytest.mark.parametrize("options", WINDOWS.values(), ids=WINDOWS)


@EACH_WINDOW
@EACH_PADDING
def test_windows_agree_with_the_reference(device, padding, options):
    images = random_images(2, 1, 37, 75, device=device)
    mask = random_mask(37, 75, device=device)
    for given in (None, mask):
        check_ssim(
            images,
            padding=padding,
            mask=given,
            reduction="map",
            **options,
            value_tolerance=4e-6,
            grad_tolerance=5e-5 if given is not None else 1e-5,
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_windows_serve_every_dtype(device, dtype):
    images = random_images(1, 1, 20, 75, dtype=dtype, device=device)
    for options in (WINDOWS["wide"], WINDOWS["taps of each axis"]):
        check_ssim(images, **options, reduction="map")


@EACH_WINDOW
def test_windows_are_those_of_scipy(device, options):
    x, y = random_images(37, 75, dtype=torch.float64, device=device).values()
    rows, columns = (np.array(taps) for taps in _taps(**options))

    def mean(image):
        return scipy.ndimage.correlate(image, np.outer(rows, columns), mode="reflect")

    a, b = (image.cpu().numpy() for image in (x, y))
    mean_x, mean_y = mean(a), mean(b)
    covariance = mean(a * b) - mean_x * mean_y
    variances = mean(a * a) - mean_x**2 + mean(b * b) - mean_y**2
    luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (variances + 9e-4)
    components = {"index": luminance * structure, "luminance": luminance, "contrast_structure": structure}
    for component, expected in components.items():
        actual = ssim(x, y, **options, padding="symmetric", component=component, reduction="map")
        assert_close(component, actual, torch.from_numpy(expected), 1e-10)


def _taps(window="gaussian", window_size=11, window_sigma=1.5):
    if not isinstance(window, str):
        return [
            np.array(taps) / sum(taps) for taps in (window if isinstance(window[0], tuple) else [window] * 2)
        ]
    sizes, sigmas = (v if isinstance(v, tuple) else (v, v) for v in (window_size, window_sigma))
    centred = [np.arange(size) - size // 2 for size in sizes]
    heights = [
        np.exp(-(at**2) / 2 / sigma**2) if window == "gaussian" else np.ones(len(at))
        for at, sigma in zip(centred, sigmas, strict=True)
    ]
    return [height / height.sum() for height in heights]


@pytest.mark.parametrize(
    "form",
    [list, np.array, torch.tensor, lambda taps: np.array(taps, np.float32)],
    ids=["list", "array", "tensor", "float32"],
)
def test_taps_come_in_any_sequence(device, form):
    images = random_images(1, 16, 20, device=device)
    expected = ssim(**images, window=(1, 2, 1))
    assert torch.equal(ssim(**images, window=form([1, 2, 1])), expected)
    assert torch.equal(ssim(**images, window=form([[1, 2, 1], [1, 2, 1]])), expected)
    sizes = ssim(**images, window_size=(7, 5))
    assert torch.equal(ssim(**images, window_size=np.array([7, 5])), sizes)
    with use_reference():
        assert_close("reference", ssim(**images, window=form([1, 2, 1])), expected, 2e-6)
    oracle = reference.ssim(*(image.double() for image in images.values()), window=form([1, 2, 1]))
    assert_close("oracle", expected, oracle, 2e-6)


def test_equal_taps_are_a_uniform_window(device):
    images = random_images(1, 16, 20, device=device)
    assert_close(
        "value", ssim(**images, window=[3] * 7), ssim(**images, window="uniform", window_size=7), 1e-6
    )


def test_other_functions_take_the_same_windows(device):
    images = random_images(1, 40, 40, device=device)
    check_ssim(images, ms_ssim, reference.ms_ssim, window_size=(3, 5), weights=(0.5, 0.5))
    check_ssim(images, reconstruction_loss, reference.reconstruction_loss, window=(1, 3, 1), l1=0.5)
    assert torch.equal(SSIMLoss(window=[1, 3, 1])(**images), 1 - ssim(**images, window=[1, 3, 1]))


def test_volumes_have_windows_of_three_axes(device):
    images = random_images(1, 2, 5, 9, 12, device=device)
    tolerances = {"value_tolerance": 4e-6, "grad_tolerance": 2e-5}
    check_ssim(images, window_size=(3, 7, 5), window_sigma=(0.5, 1.5, 1.0), **tolerances)
    check_ssim(images, window=((1, 2, 1), (1, 1, 1), (1, 2, 3, 2, 1)), padding="symmetric", **tolerances)


@pytest.mark.parametrize("component", ["index", "contrast_structure", "luminance"])
@REDUCTIONS
@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
def test_components_agree_with_the_reference(device, masked, reduction, component):
    images = random_images(2, 2, 21, 75, device=device)
    mask = random_mask(21, 75, device=device) if masked else None
    tolerances = {"value_tolerance": 4e-6, "grad_tolerance": 5e-5 if masked else 1e-5}
    for window_size in (11, 5):
        check_ssim(
            images, component=component, reduction=reduction, mask=mask, window_size=window_size, **tolerances
        )


def test_the_index_is_the_product_of_its_components(device):
    x, y = random_images(2, 20, 24, device=device).values()
    structure, luminance = (
        ssim(x, y, component=component, reduction="map") for component in ("contrast_structure", "luminance")
    )
    assert_close("product", structure * luminance, ssim(x, y, reduction="map"), 1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=dtype_id)
@pytest.mark.parametrize("shape", [(3, 20, 24), (1, 1, 9, 10, 11)], ids=str)
@pytest.mark.parametrize("window_size", [3, 7])
def test_covariances_of_samples_are_those_of_scikit_image(device, window_size, shape, dtype):
    x, y = random_images(*shape, dtype=dtype, device=device).values()
    options = {"window": "uniform", "window_size": window_size, "use_sample_covariance": True}
    images = [image[0].cpu().numpy() if len(shape) == 5 else image.cpu().numpy() for image in (x, y)]
    expected, full = skimage.metrics.structural_similarity(
        *images, win_size=window_size, channel_axis=0, data_range=1.0, full=True
    )
    assert ssim(x, y, **options).item() == pytest.approx(
        expected, abs=1e-12 if dtype == torch.float64 else 1e-6
    )
    actual = ssim(x, y, **options, padding="symmetric", reduction="map").cpu().reshape(full.shape)
    assert_close("map", actual, torch.as_tensor(full), 1e-11 if dtype == torch.float64 else 4e-6)
    check_ssim({"x": x, "y": y}, **options, value_tolerance=None if dtype == torch.float64 else 4e-6)


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "window must have an odd number of taps, 3 or more, got 4", {"window": [1] * 4}),
        (ValueError, "window must have an odd number of taps, 3 or more, got 1", {"window": [1]}),
        (ValueError, r"window must be symmetric, got \[1, 2, 3\]", {"window": [1, 2, 3]}),
        (ValueError, r"window\[1\] must be symmetric, got \[1, 2, 3\]", {"window": [[1, 1, 1], [1, 2, 3]]}),
        (ValueError, r"window\[1\] must be finite and positive, got -1", {"window": [1, -1, 1]}),
        (ValueError, r"window must hold one for each of 2 axes, got 3", {"window": [[1, 1, 1]] * 3}),
        (ValueError, r"window must be 'gaussian', 'uniform' or its taps, got \[\]", {"window": []}),
        (ValueError, r"window_size must hold one for each of 2 axes, got 1", {"window_size": [11]}),
        (ValueError, r"window_size\[1\] must be odd and at least 3, got 4", {"window_size": (3, 4)}),
        (TypeError, r"window_size\[0\] must be an integer, got 3.0", {"window_size": (3.0, 3)}),
        (ValueError, r"window_sigma\[0\] must be finite and positive, got 0", {"window_sigma": (0, 1)}),
        (ValueError, r"window_sigma must hold one for each of 2 axes, got 3", {"window_sigma": (1, 1, 1)}),
        (
            ValueError,
            r"x must be at least 3 x 21 pixels for window_size = \(3, 21\) .*",
            {"window_size": (3, 21)},
        ),
        (TypeError, r"use_sample_covariance must be True or False, got 1", {"use_sample_covariance": 1}),
    ],
)
def test_windows_that_do_not_fit_are_refused(device, error, message, options):
    image = torch.zeros(1, 16, 20, device=device)
    with pytest.raises(error, match=f"^{message}$"):
        ssim(image, image, **options)
