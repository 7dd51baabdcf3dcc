"""The forms in which `ssim` and `ms_ssim` take images: types, layouts, data ranges, borders, luma."""

import numpy as np
import pytest
import skimage.metrics
import torch

from vtadl_ext import SSIMLoss, ms_ssim, reconstruction_loss, reference, ssim, use_reference

from .comparison import assert_close, strided, transposed, value_and_grads
from .images import EACH_PADDING, check_ssim, random_images, random_mask
from .photographs import noisy, photograph

INTEGERS = [torch.uint8, torch.int8, torch.uint16, torch.int16, torch.int32, torch.int64]
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none", "map"])
FUNCTIONS = pytest.mark.parametrize(
    "function", [ssim, ms_ssim, reconstruction_loss], ids=lambda f: f.__name__
)


def random_integers(*shape, dtype=torch.uint8, device="cpu"):
    limits = torch.iinfo(dtype)
    step = (limits.max - limits.min) / 4
    images = random_images(*shape, dtype=torch.float64, device=device)
    return {
        name: ((image + 0.5) * step + limits.min).clamp(limits.min, limits.max / 2).to(dtype)
        for name, image in images.items()
    }


# --------------------------------------------------------------------------------------------------- integers


@EACH_PADDING
@REDUCTIONS
def test_bytes_have_the_index_of_their_numbers(device, reduction, padding):
    x, y = random_integers(2, 3, 19, 75, device=device).values()
    value = ssim(x, y, padding=padding, reduction=reduction)
    assert value.dtype == torch.float32
    expected = reference.ssim(x.double(), y.double(), data_range=255.0, padding=padding, reduction=reduction)
    assert_close("value", value, expected, 2e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"window": "uniform", "window_size": 7},
        {"window_size": 31},
        {"window_size": 5, "component": "luminance"},
        {"data_range": 100.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", [lambda x: x, transposed, lambda x: x.permute(0, 3, 2, 1)])
def test_bytes_of_any_layout_are_read_as_they_lie(device, layout, options):
    x, y = (layout(image) for image in random_integers(2, 40, 40, 40, device=device).values())
    x, y = x[:, :2], y[:, :2]
    mask = random_mask(40, 40, device=device)
    for given in (None, mask):
        value = ssim(x, y, **options, mask=given, reduction="none")
        expected = reference.ssim(
            x.double(), y.double(), **{"data_range": 255.0, **options}, mask=given, reduction="none"
        )
        assert_close("value", value, expected, 2e-6)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_have_the_range_of_their_type(device, dtype):
    x, y = random_integers(2, 20, 24, dtype=dtype, device=device).values()
    limits = torch.iinfo(dtype)
    value = ssim(x, y)
    assert value.dtype == (torch.float64 if limits.bits > 16 else torch.float32)
    expected = reference.ssim(x.double(), y.double(), data_range=float(limits.max - limits.min))
    assert_close("value", value, expected, 2e-6)
    images = (image.cpu().numpy() for image in (x, y))
    if dtype != torch.int64:  # whose range scikit-image computes in integers that overflow
        theirs = skimage.metrics.structural_similarity(
            *images,
            **{"channel_axis": 0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
        )
        assert value.item() == pytest.approx(theirs, abs=2e-6)


def test_equal_bytes_have_index_1(device):
    x = random_integers(2, 3, 19, 75, device=device)["x"]
    assert (ssim(x, x.clone(), reduction="map") == 1).all()


@FUNCTIONS
def test_each_function_takes_bytes(device, function):
    x, y = random_integers(2, 2, 35, 38, device=device).values()
    value = function(x, y, window_size=3)
    oracle = getattr(reference, function.__name__)
    assert_close("value", value, oracle(x.double(), y.double(), window_size=3, data_range=255.0), 2e-6)
    with use_reference():
        assert_close("reference", function(x, y, window_size=3), value, 2e-6)


def test_bytes_have_no_gradients(device):
    x, y = random_integers(1, 12, 13, device=device).values()
    x = x.float()
    with pytest.raises(TypeError, match=r"^y must have the dtype of x, torch.float32, got torch.uint8$"):
        ssim(x.requires_grad_(), y)


# ------------------------------------------------------------------------------------------------- data range


def test_a_tensor_is_a_data_range(device):
    x, y = random_images(2, 16, 20, device=device).values()
    for data_range in (torch.tensor(2.0, device=device), torch.tensor([2]), np.float32(2)):
        assert torch.equal(ssim(x, y, data_range=data_range), ssim(x, y, data_range=2.0))


@FUNCTIONS
def test_a_pair_is_a_data_range_that_clamps(device, function):
    images = random_images(2, 33, 36, device=device).values()
    value, grads = value_and_grads(
        lambda x, y: function(x, y, data_range=(0.25, 0.75), window_size=3), images
    )
    expected, expected_grads = value_and_grads(
        lambda x, y: function(x.clamp(0.25, 0.75), y.clamp(0.25, 0.75), data_range=0.5, window_size=3), images
    )
    assert torch.equal(value, expected)
    assert all(torch.equal(*pair) for pair in zip(grads, expected_grads, strict=True))


@pytest.mark.parametrize(
    ("error", "message", "data_range"),
    [
        (ValueError, r"data_range must hold one number, got shape \[2\]", torch.ones(2)),
        (ValueError, r"data_range must be a number or a pair \(low, high\), got \(0, 1, 2\)", (0, 1, 2)),
        (ValueError, r"data_range\[1\] - data_range\[0\] must be finite and positive, got -1", (1, 0)),
        (TypeError, r"data_range\[1\] must be a number, got '1'", (0, "1")),
    ],
)
def test_data_ranges_that_are_none_are_refused(device, error, message, data_range):
    image = torch.zeros(1, 12, 12, device=device)
    with pytest.raises(error, match=f"^{message}$"):
        ssim(image, image, data_range=data_range)


# ---------------------------------------------------------------------------------------------------- layouts


@REDUCTIONS
def test_a_plane_is_an_image_of_one_channel(device, reduction):
    x, y = random_images(16, 20, device=device).values()
    mask = random_mask(16, 20, device=device)
    for given in (None, mask):
        plane = ssim(x, y, mask=given, reduction=reduction)
        image = ssim(x[None], y[None], mask=given, reduction=reduction)
        assert torch.equal(plane, image[0] if reduction == "map" else image)
    check_ssim({"x": x, "y": y}, reduction=reduction)


@REDUCTIONS
@pytest.mark.parametrize("shape", [(16, 20, 3), (2, 16, 20, 3), (2, 8, 7, 9, 3)], ids=str)
def test_channels_may_come_last(device, shape, reduction):
    x, y = random_images(*shape, device=device).values()
    mask = random_mask(*shape[1:-1], 1, device=device)
    options = {"window_size": 5, "reduction": reduction}
    first = 0 if len(shape) == 3 else 1
    for given in (None, mask):
        value = ssim(x, y, mask=given, channels_last=True, **options)
        moved = None if given is None else given.movedim(-1, 0)
        expected = ssim(x.movedim(-1, first), y.movedim(-1, first), mask=moved, **options)
        assert torch.equal(value, expected.movedim(first, -1) if reduction == "map" else expected)
    check_ssim({"x": x, "y": y}, channels_last=True, value_tolerance=4e-6, **options)


def test_ms_ssim_takes_the_same_layouts(device):
    x, y = random_images(2, 3, 35, 38, device=device).values()
    options = {"window_size": 3, "reduction": "none"}
    expected = ms_ssim(x, y, **options)
    last = [image.movedim(1, -1) for image in (x, y)]
    assert torch.equal(ms_ssim(*last, channels_last=True, **options), expected)
    assert torch.equal(ms_ssim(x[0, 0], y[0, 0], **options), ms_ssim(x[0, :1], y[0, :1], **options))
    assert_close("sum", ms_ssim(x, y, window_size=3, reduction="sum"), expected.sum(), 1e-6)


def test_wrong_numbers_of_dimensions_are_named_in_their_layout(device):
    image = torch.zeros(2, 2, 2, 2, 2, 2, device=device)
    message = r"^x must have shape \[N, D, H, W, C\] or \[N, H, W, C\] or \[H, W, C\] or \[H, W\], got"
    with pytest.raises(ValueError, match=message):
        ssim(image, image, channels_last=True)


# ----------------------------------------------------------------------------------- reduction, border, luma


@pytest.mark.parametrize("shape", [(3, 2, 14, 15), (2, 14, 15)], ids=str)
def test_the_sum_is_that_of_the_means_of_images(device, shape):
    images = random_images(*shape, device=device)
    check_ssim(images, reduction="sum")
    assert_close("sum", ssim(**images, reduction="sum"), ssim(**images, reduction="none").sum(), 1e-6)
    loss = SSIMLoss(reduction="sum")(**images)
    assert_close("loss", loss, (1 - ssim(**images, reduction="none")).sum(), 1e-6)


@pytest.mark.parametrize("shape", [(20, 24), (2, 3, 20, 24), (1, 2, 16, 17, 18)], ids=str)
def test_a_cropped_border_is_left_out(device, shape):
    x, y = random_images(*shape, device=device).values()
    mask = random_mask(*shape[-2:], device=device)
    options = {"window_size": 3, "padding": "symmetric"}
    inside = (..., *[slice(4, -4)] * (3 if len(shape) == 5 else 2))
    for given in (None, mask):
        value = ssim(x, y, crop_border=4, mask=given, **options)
        cropped = None if given is None else given.expand(shape)[inside]
        assert torch.equal(value, ssim(x[inside], y[inside], mask=cropped, **options))
    check_ssim({"x": x, "y": y}, crop_border=4, **options)


WEIGHTS = {
    "bt601": ([0.299, 0.587, 0.114], 0),
    "bt709": ([0.2126, 0.7152, 0.0722], 0),
    "matlab": ([65.481, 128.553, 24.966], 16),
}


@pytest.mark.parametrize("luma", WEIGHTS)
def test_luma_is_that_of_the_standards(device, luma):
    x, y = random_images(2, 3, 20, 24, device=device).values()
    weights, offset = WEIGHTS[luma]
    scale = 255 if luma == "matlab" else 1
    of = [
        (torch.einsum("nchw,c->nhw", image.double(), image.new_tensor(weights).double()) + offset) / scale
        for image in (x, y)
    ]
    expected = reference.ssim(*(image.unsqueeze(1) for image in of))
    assert_close("value", ssim(x, y, luma=luma), expected, 2e-6)
    check_ssim({"x": x, "y": y}, luma=luma)
    as_bytes = [(255 * image).clamp(0, 255).to(torch.uint8) for image in (x, y)]
    of_bytes = ssim(*(image.double() / 255 for image in as_bytes), luma=luma)
    assert_close("bytes", ssim(*as_bytes, luma=luma), of_bytes, 2e-6)


def test_a_pixel_of_luma_is_valid_where_its_channels_are(device):
    x, y = random_images(2, 3, 20, 24, device=device).values()
    mask = random_mask(2, 3, 20, 24, valid=0.9, device=device)
    expected = ssim(x, y, luma="bt601", mask=mask.all(1, keepdim=True))
    assert torch.equal(ssim(x.masked_fill(~mask, torch.nan), y, luma="bt601", mask=mask), expected)


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "luma must be 'bt601', 'bt709', 'matlab' or None, got 'y'", {"luma": "y"}),
        (ValueError, "x must have 3 channels for luma = 'bt601', got 2", {"luma": "bt601"}),
        (ValueError, "crop_border must be finite and at least 0, got -1", {"crop_border": -1}),
        (TypeError, "crop_border must be an integer, got 1.5", {"crop_border": 1.5}),
        (ValueError, "crop_border must leave pixels of the images, got 6 for 12 x 13", {"crop_border": 6}),
        (ValueError, "x must be at least 11 x 11 pixels for .*, got 10 x 11", {"crop_border": 1}),
        (TypeError, "channels_last must be True or False, got 1", {"channels_last": 1}),
    ],
)
def test_image_options_that_do_not_fit_are_refused(device, error, message, options):
    image = torch.zeros(2, 12, 13, device=device)
    with pytest.raises(error, match=f"^{message}$"):
        ssim(image, image, **options)


def test_super_resolution_papers_compare_the_cropped_luma_of_bytes(device):
    """As BasicSR: the Y channel of rgb2ycbcr, a border of 4 pixels left out, Gaussian windows inside."""
    x = photograph("astronaut").to(device)
    y = noisy(photograph("astronaut")).to(device)
    luma = [np.tensordot(image.cpu().numpy() / 255.0, WEIGHTS["matlab"][0], (0, 0)) + 16 for image in (x, y)]
    expected = skimage.metrics.structural_similarity(
        *(image[4:-4, 4:-4] for image in luma),
        **{"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255},
    )
    assert ssim(x, y, luma="matlab", crop_border=4).item() == pytest.approx(expected, abs=1e-6)


def test_strides_of_bytes_do_not_matter(device):
    x, y = random_integers(2, 3, 19, 24, device=device).values()
    relaid = [strided(image.float()).to(torch.uint8) for image in (x, y)]
    relaid = [image.repeat_interleave(2, -1)[..., ::2] for image in relaid]
    assert torch.equal(ssim(*relaid), ssim(x, y))
