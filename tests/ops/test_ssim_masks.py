"""`ssim` under masks: normalised convolution, in which masked pixels have no part."""

import math

import numpy as np
import pytest
import torch

from vtadl_ext import ssim
from vtadl_ext.reference.ssim import window_taps

from .comparison import DTYPES, LAYOUTS, assert_close, dtype_id, value_and_grads
from .images import EACH_PADDING, check_ssim, random_images, random_mask

REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "none", "map"])


def brute_force(x, y, mask, window, window_size, padding):
    """The map of a pair of planes, one window after the other, and which windows hold a valid pixel."""
    if padding != "valid":
        mode = {"same": "constant"}.get(padding, padding)
        x, y, mask = (np.pad(plane, window_size // 2, mode) for plane in (x, y, mask))
    taps = np.array(window_taps(window, window_size, 1.5))
    size = [side - window_size + 1 for side in x.shape]
    index, counted = np.zeros(size), np.zeros(size, dtype=bool)
    for row, column in np.ndindex(*size):
        patch = np.s_[row : row + window_size, column : column + window_size]
        inside = mask[patch]
        weights = np.outer(taps, taps)[inside]
        if weights.sum() < 1e-12:
            continue
        a, b = x[patch][inside], y[patch][inside]
        mean_x, mean_y = (np.average(pixels, weights=weights) for pixels in (a, b))
        variances = np.average((a - mean_x) ** 2 + (b - mean_y) ** 2, weights=weights)
        covariance = np.average((a - mean_x) * (b - mean_y), weights=weights)
        index[row, column] = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
        index[row, column] /= (mean_x**2 + mean_y**2 + 1e-4) * (variances + 9e-4)
        counted[row, column] = True
    return index, counted


@EACH_PADDING
@pytest.mark.parametrize(("window", "window_size"), [("gaussian", 11), ("uniform", 5)])
def test_each_window_is_the_index_of_its_valid_pixels(device, window, window_size, padding):
    x, y = random_images(1, 1, 21, 25, dtype=torch.float64, device=device).values()
    mask = random_mask(21, 25, valid=0.3, device=device)
    mask[:13, :14] = False
    expected, counted = brute_force(
        *(tensor.cpu().numpy().reshape(21, 25) for tensor in (x, y, mask)), window, window_size, padding
    )
    expected = torch.from_numpy(expected)
    assert not counted.all()
    options = {"window": window, "window_size": window_size, "padding": padding, "mask": mask}
    assert_close("map", ssim(x, y, **options, reduction="map").cpu()[0, 0], expected, 1e-12)
    assert_close("mean", ssim(x, y, **options).cpu(), expected.sum() / counted.sum(), 1e-12)


@EACH_PADDING
@REDUCTIONS
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_masks_agree_with_the_reference(device, dtype, reduction, padding):
    if dtype == torch.float16:
        reduction = "map"  # gradients of means are subnormal numbers in half precision
    images = random_images(2, 3, 19, 24, dtype=dtype, device=device)
    mask = random_mask(2, 3, 19, 24, device=device)
    check_ssim(images, mask=mask, padding=padding, reduction=reduction)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=dtype_id)
@pytest.mark.parametrize("window_size", [3, 7, 31])
@pytest.mark.parametrize("valid", [0.02, 0.5, 0.98])
def test_windows_and_shares_of_valid_pixels_agree_with_the_reference(device, valid, window_size, dtype):
    images = random_images(1, 1, 33, 44, dtype=dtype, device=device)
    mask = random_mask(33, 44, valid=valid, device=device)
    # A pixel alone has no variance, however far it is from the pivot: float32 has to subtract equal squares.
    tolerances = {"value_tolerance": 5e-5, "grad_tolerance": 2e-4} if dtype == torch.float32 else {}
    for window in ("gaussian", "uniform"):
        options = {"window": window, "window_size": window_size, "reduction": "map"}
        check_ssim(images, mask=mask, **options, **tolerances)


@REDUCTIONS
@pytest.mark.parametrize("padding", ["valid", "reflect"])
def test_a_mask_that_is_true_everywhere_changes_nothing(device, padding, reduction):
    images = random_images(2, 3, 19, 24, device=device).values()
    mask = torch.ones(2, 1, 19, 24, dtype=torch.bool, device=device)
    options = {"padding": padding, "reduction": reduction}
    value, grads = value_and_grads(lambda x, y: ssim(x, y, mask=mask, **options), images)
    expected, expected_grads = value_and_grads(lambda x, y: ssim(x, y, **options), images)
    assert_close("value", value, expected, 2e-6)
    for name, grad, expected_grad in zip("xy", grads, expected_grads, strict=True):
        assert_close(f"gradient of {name}", grad, expected_grad, 1e-5)


@EACH_PADDING
@REDUCTIONS
@pytest.mark.parametrize(
    ("names", "held"), [("x", math.nan), ("y", math.nan), ("xy", math.inf), ("xy", 1e30)], ids=str
)
def test_masked_pixels_may_hold_anything_and_have_gradient_0(device, names, held, reduction, padding):
    images = random_images(2, 3, 19, 24, device=device)
    mask = random_mask(2, 1, 19, 24, device=device)
    options = {"mask": mask, "padding": padding, "reduction": reduction}
    expected, expected_grads = value_and_grads(lambda x, y: ssim(x, y, **options), images.values())
    for name in names:
        images[name] = images[name].masked_fill(~mask, held)
    value, grads = value_and_grads(lambda x, y: ssim(x, y, **options), images.values())
    assert_close("value", value, expected, 2e-6)
    for name, grad, expected_grad in zip("xy", grads, expected_grads, strict=True):
        assert (grad.masked_select(~mask) == 0).all(), name
        assert grad.masked_select(mask).any(), name
        assert_close(f"gradient of {name}", grad, expected_grad, 1e-5)


def test_the_zeros_of_same_padding_are_not_valid(device):
    x, y = random_images(1, 2, 20, 24, device=device).values()
    mask = torch.ones(1, 1, 20, 24, dtype=torch.bool, device=device)
    bordered = [torch.nn.functional.pad(tensor, [5] * 4) for tensor in (x + 3, y - 2, mask.float())]
    expected = ssim(*bordered[:2], mask=bordered[2] > 0, reduction="map")
    actual = ssim(x + 3, y - 2, mask=mask, padding="same", reduction="map")
    assert_close("map", actual, expected, 2e-6)
    with pytest.raises(AssertionError):
        assert_close("map", ssim(x + 3, y - 2, padding="same", reduction="map"), expected, 0.1)


@EACH_PADDING
def test_images_without_valid_pixels_have_mean_nan_and_no_gradient(device, padding):
    images = random_images(3, 2, 12, 13, device=device)
    mask = torch.ones(3, 1, 12, 13, dtype=torch.bool, device=device)
    mask[1] = False
    options = {"mask": mask, "padding": padding}
    value, grads = value_and_grads(lambda x, y: ssim(x, y, **options, reduction="none"), images.values())
    assert value.isnan().tolist() == [False, True, False]
    assert all(grad[[0, 2]].isfinite().all() and not grad[1].any() for grad in grads)
    full = ssim(**images, **options, reduction="map")
    assert not full[1].any()
    assert_close("mean", ssim(**images, **options), full[[0, 2]].mean(), 2e-6)


@EACH_PADDING
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_nothing_but_masked_pixels_has_mean_nan_and_no_gradient(device, reduction, padding):
    images = random_images(2, 2, 12, 13, device=device)
    mask = torch.zeros(1, 1, dtype=torch.bool, device=device)
    options = {"mask": mask, "padding": padding, "reduction": reduction}
    value, grads = value_and_grads(lambda x, y: ssim(x, y, **options), images.values())
    assert value.isnan().all()
    assert all(grad.shape == images["x"].shape and not grad.any() for grad in grads)


@EACH_PADDING
@pytest.mark.parametrize(
    "shape",
    [(), (1,), (24,), (19, 1), (19, 24), (3, 1, 1), (2, 1, 19, 24), (1, 3, 1, 24), (2, 1, 1, 1)],
    ids=str,
)
def test_masks_broadcast(device, shape, padding):
    x, y = random_images(2, 3, 19, 24, device=device).values()
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)).to(device) < 0.8
    whole = mask.expand(2, 3, 19, 24).contiguous()
    options = {"padding": padding, "reduction": "map"}
    assert torch.equal(ssim(x, y, mask=mask, **options), ssim(x, y, mask=whole, **options))


@pytest.mark.parametrize("shape", [(3, 19, 24), (1, 19, 24), (19, 24)], ids=str)
def test_single_images_take_masks(device, shape):
    check_ssim(random_images(3, 19, 24, device=device), mask=random_mask(*shape, device=device))


@pytest.mark.parametrize(
    "layout",
    [LAYOUTS["transposed"], lambda mask: torch.stack([mask, ~mask], -1).flatten(-2)[..., ::2]],
    ids=["transposed", "strided"],
)
def test_strides_of_masks_do_not_matter(device, layout):
    x, y = random_images(2, 3, 19, 24, device=device).values()
    mask = random_mask(2, 3, 19, 24, device=device)
    relaid = layout(mask)
    for padding in ("valid", "same"):
        value, grads = value_and_grads(lambda x, y, p=padding: ssim(x, y, mask=relaid, padding=p), [x, y])
        expected, expected_grads = value_and_grads(
            lambda x, y, p=padding: ssim(x, y, mask=mask, padding=p), [x, y]
        )
        assert torch.equal(value, expected)
        assert all(torch.equal(*pair) for pair in zip(grads, expected_grads, strict=True))


def test_the_mask_is_not_changed(device):
    images, mask = random_images(2, 3, 19, 24, device=device), random_mask(19, 24, device=device)
    before = mask.clone()
    value_and_grads(lambda x, y: ssim(x, y, mask=mask), images.values())
    assert torch.equal(mask, before)


@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["x", "y"])
@pytest.mark.parametrize("reduction", ["mean", "map"])
def test_one_gradient_alone_is_the_same_as_with_the_other(device, reduction, needs):
    images = random_images(2, 19, 24, device=device)
    check_ssim(images, mask=random_mask(19, 24, device=device), reduction=reduction, needs=needs)
