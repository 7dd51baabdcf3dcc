"""`ssim` and its relatives against the libraries for them, by the settings in docs/ssim_peers.md."""

import re
from pathlib import Path
from types import SimpleNamespace

import kornia
import numpy as np
import pytest
import pytorch_msssim
import skimage.metrics
import torch
import torchmetrics

import vtadl_ext
from vtadl_ext import ms_ssim, ssim

from .comparison import assert_close, dtype_id, value_and_grads
from .images import random_images

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=dtype_id)
PAGE = Path(__file__).parents[2] / "docs" / "ssim_peers.md"
ROW = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \| ([\de-]+) \| ([\de-]+) \|$", flags=re.MULTILINE)
ROWS = ROW.findall(PAGE.read_text())


def structural_similarity(x, y, **options):
    """scikit-image's of one image or volume, which it wants as arrays."""
    results = skimage.metrics.structural_similarity(
        *(image[0].cpu().numpy() for image in (x, y)), channel_axis=0, **options
    )
    if isinstance(results, tuple):
        return tuple(torch.as_tensor(result) for result in results)
    return torch.as_tensor(np.asarray(results))


class TensorFlow:
    """The functions of tensorflow.image, of tensors."""

    def __getattr__(self, name):
        import tensorflow

        function = getattr(tensorflow.image, name)
        return lambda x, y, **options: torch.from_numpy(function(x.numpy(), y.numpy(), **options).numpy())


WRAPPED = {
    "skimage": SimpleNamespace(metrics=SimpleNamespace(structural_similarity=structural_similarity)),
    "tensorflow": SimpleNamespace(image=TensorFlow()),
}
NEED_A_GPU = ("fused_ssim", "fussim")


def library(name):
    module = pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    return WRAPPED.get(name, module)


def inputs_of(call, dtype, device):
    """The images that a line of the table names."""
    volumes, scales = "(v, w" in call, re.search("ms_ssim|MS_SSIM|multiscale", call)
    size = (13, 14, 15) if volumes else (184, 191) if scales else (40, 45)
    channels = 3 if "(r, s" in call else 2
    x, y = (
        image.clamp(0, 1) for image in random_images(2, channels, *size, dtype=dtype, device=device).values()
    )
    if "skimage" in call:
        x, y = x[:1], y[:1]
    i, j = ((255 * image).to(torch.uint8) for image in (x, y))
    p, q = (image.movedim(1, -1) for image in (x, y))
    return {**dict(zip("xyvwrs", (x, y) * 3, strict=True)), "i": i, "j": j, "p": p, "q": q}


def test_the_table_has_every_library():
    libraries = {theirs.split(".")[0] for theirs, *_ in ROWS}
    assert libraries == {
        *(
            "skimage",
            "torchmetrics",
            "kornia",
            "pytorch_msssim",
            "piq",
            "piqa",
            "frame_analytics",
            "tensorflow",
        ),
        *NEED_A_GPU,
    }


@DTYPES
@pytest.mark.parametrize(("theirs", "ours", "in_double", "in_float"), ROWS, ids=[row[0] for row in ROWS])
def test_each_row_of_the_table_holds(device, theirs, ours, in_double, in_float, dtype):
    name = theirs.split(".")[0]
    if name in NEED_A_GPU and (device.type != "cuda" or dtype == torch.float64):
        pytest.skip(f"{name} takes float32 on a GPU")
    inputs = inputs_of(theirs, dtype, device)
    expected = eval(theirs, {**inputs, name: library(name)})
    actual = eval(ours, {**inputs, "vtadl_ext": vtadl_ext})
    tolerance = float(in_double if dtype == torch.float64 else in_float)
    torch.testing.assert_close(
        actual.cpu().double(), expected.cpu().double(), rtol=0, atol=tolerance, check_stride=False
    )


@DTYPES
@pytest.mark.parametrize("window", ["gaussian", "uniform"])
@pytest.mark.parametrize("size", [(23, 31), (65, 130)], ids=lambda size: "{}x{}".format(*size))
def test_the_map_is_that_of_scikit_image(device, size, window, dtype):
    x, y = random_images(1, 3, *size, dtype=dtype, device=device).values()
    options = {"gaussian_weights": True, "sigma": 1.5} if window == "gaussian" else {"win_size": 7}
    mean, full = structural_similarity(
        *(x.double(), y.double()), **options, use_sample_covariance=False, data_range=1.0, full=True
    )
    taps = {"gaussian": 11, "uniform": 7}[window]
    options = {"window": window, "window_size": taps}
    full = full[:, taps // 2 : -(taps // 2), taps // 2 : -(taps // 2)]
    for reduction, expected, tolerance in (("mean", mean, 1e-6), ("map", full[None], 4e-6)):
        actual = ssim(x, y, **options, reduction=reduction).cpu()
        tolerance = 1e-11 if dtype == torch.float64 else tolerance
        torch.testing.assert_close(actual, expected.to(dtype), rtol=0, atol=tolerance)


@DTYPES
def test_gradients_are_those_of_scikit_image(device, dtype):
    channels, height, width = 3, 44, 48
    x, y = random_images(1, channels, height, width, dtype=dtype, device=device).values()
    y.requires_grad_()
    ssim(x, y).backward()
    _, expected = structural_similarity(
        *(image.detach().double() for image in (x, y)),
        **{"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0},
        gradient=True,
    )
    # It divides by all pixels, not by all windows, does not average channels, and pads.
    expected *= height * width / ((height - 10) * (width - 10)) / channels
    inner = np.s_[:, 10:-10, 10:-10]
    tolerance = 1e-11 if dtype == torch.float64 else 1e-5
    assert_close("gradient of y", y.grad[0][inner], expected[inner], tolerance)


@DTYPES
@pytest.mark.parametrize("data_range", [1.0, 255.0])
@pytest.mark.parametrize("window_size", [7, 11])
def test_values_and_gradients_are_those_of_pytorch_msssim(device, window_size, data_range, dtype):
    images = random_images(2, 3, 33, 40, dtype=dtype, device=device).values()
    check_both(
        lambda x, y: ssim(x, y, data_range=data_range, window_size=window_size, reduction="none"),
        lambda x, y: pytorch_msssim.ssim(x, y, data_range, False, window_size),
        [image * data_range for image in images],
    )


@DTYPES
@pytest.mark.parametrize("size", [(48, 52), (33, 49), (35, 38)], ids=str)  # of which some halves are odd
def test_values_and_gradients_are_those_of_pytorch_msssims_multi_scale_index(device, size, dtype):
    check_both(
        lambda x, y: ms_ssim(x, y, window_size=3, odd_sides="zeros", reduction="none"),
        lambda x, y: pytorch_msssim.ms_ssim(x, y, 1.0, False, win_size=3),
        random_images(2, 3, *size, dtype=dtype, device=device).values(),
    )


@DTYPES
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_gradients_are_those_of_kornia(device, padding, dtype):
    check_both(
        lambda x, y: ssim(x, y, padding={"valid": "valid", "same": "reflect"}[padding]),
        lambda x, y: kornia.metrics.ssim(x, y, 11, padding=padding).mean(),
        random_images(2, 3, 23, 24, dtype=dtype, device=device).values(),
    )


@DTYPES
def test_gradients_are_those_of_torchmetrics(device, dtype):
    check_both(
        lambda x, y: ssim(x, y, padding="reflect"),
        lambda x, y: torchmetrics.functional.image.structural_similarity_index_measure(x, y, data_range=1.0),
        random_images(2, 3, 23, 24, dtype=dtype, device=device).values(),
    )


def check_both(ours, theirs, images):
    images = list(images)
    value, grads = value_and_grads(ours, images)
    # In float64: what they lose in float32 says nothing of ours.
    expected, expected_grads = value_and_grads(theirs, [image.double() for image in images])
    assert_close("value", value, expected, 1e-5)
    for name, grad, expected_grad in zip("xy", grads, expected_grads, strict=True):
        assert_close(f"gradient of {name}", grad, expected_grad, 1e-4)


@pytest.mark.parametrize("package", ["fused_ssim", "fussim"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_values_and_gradients_are_those_of_other_kernels_for_the_gpu(package, padding):
    fused_ssim = pytest.importorskip(package, reason=f"{package} is not installed").fused_ssim
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU")
    x, y = random_images(2, 3, 40, 90, device="cuda").values()
    value, (grad, _) = value_and_grads(lambda x, y: ssim(x, y, padding=padding), [x, y])
    expected, (expected_grad, _) = value_and_grads(
        lambda x, y: fused_ssim(x, y, padding=padding), [x, y], (True, False)
    )
    assert_close("value", value, expected, 1e-5)
    assert_close("gradient of x", grad, expected_grad, 1e-4)
