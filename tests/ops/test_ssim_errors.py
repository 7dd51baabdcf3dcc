"""The errors of `ssim` for arguments that do not fit, which are the same on all devices."""

import re

import numpy as np
import pytest
import torch

from vtadl_ext import ms_ssim, reconstruction_loss, ssim

from .images import random_images

PIXELS = "torch.float32, torch.float64, torch.bfloat16 or torch.float16, or one of integers"


@pytest.fixture
def images(device):
    return random_images(2, 3, 16, 20, device=device)


def check_refusal(error, message, images, **options):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ssim(**images, **options)


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize(
    "value", [[[1.0]], None, 1.0, True, np.zeros((3, 16, 20))], ids=lambda value: type(value).__name__
)
def test_anything_but_a_tensor_is_refused(images, name, value):
    message = f"{name} must be a torch.Tensor, got {type(value).__name__}"
    check_refusal(TypeError, message, images | {name: value})


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64], ids=str)
def test_images_of_other_numbers_are_refused(images, name, dtype):
    message = f"{name} must have dtype {PIXELS}, got {dtype}"
    check_refusal(TypeError, message, images | {name: images[name].to(dtype)})


@pytest.mark.parametrize("name", ["x", "y"])
def test_sparse_images_are_refused(images, name):
    message = f"{name} must be a dense tensor, got layout torch.sparse_coo"
    check_refusal(TypeError, message, images | {name: images[name].to_sparse()})


def test_mixed_dtypes_are_refused(images):
    message = "y must have the dtype of x, torch.float32, got torch.float64"
    check_refusal(TypeError, message, images | {"y": images["y"].double()})


def test_mixed_devices_are_refused(images):
    message = f"y must be on the device of x, {images['x'].device}, got meta"
    check_refusal(ValueError, message, images | {"y": images["y"].to("meta")})


@pytest.mark.parametrize("shape", [(), (20,), (1, 2, 3, 4, 16, 20)], ids=str)
def test_other_numbers_of_dimensions_are_refused(device, shape):
    image = torch.zeros(shape, device=device)
    message = f"x must have shape [N, C, D, H, W] or [N, C, H, W] or [C, H, W] or [H, W], got {list(shape)}"
    check_refusal(ValueError, message, {"x": image, "y": image})


@pytest.mark.parametrize("shape", [(3, 16, 20), (2, 1, 16, 20), (1, 3, 16, 20), (2, 3, 20, 16)], ids=str)
def test_images_of_different_shapes_are_refused(images, shape):
    message = f"y must have the shape of x, [2, 3, 16, 20], got {list(shape)}"
    check_refusal(ValueError, message, images | {"y": images["y"].new_zeros(shape)})


@pytest.mark.parametrize(
    ("size", "window_size", "padding", "smallest"),
    [
        ((10, 40), 11, "valid", 11),
        ((40, 10), 11, "valid", 11),
        ((30, 30), 31, "valid", 31),
        ((0, 40), 3, "valid", 3),
        ((5, 40), 11, "reflect", 6),
        ((40, 15), 31, "reflect", 16),
        ((0, 40), 11, "same", 1),
        ((40, 0), 11, "same", 1),
    ],
)
def test_images_smaller_than_the_window_are_refused(device, size, window_size, padding, smallest):
    image = torch.zeros(1, *size, device=device)
    message = (
        f"x must be at least {smallest} x {smallest} pixels for window_size = {window_size} and padding = "
        f"{padding!r}, got {size[0]} x {size[1]}"
    )
    check_refusal(ValueError, message, {"x": image, "y": image}, window_size=window_size, padding=padding)


@pytest.mark.parametrize(
    ("size", "padding"), [((11, 11), "valid"), ((1, 1), "same"), ((6, 6), "reflect")], ids=str
)
def test_the_smallest_images_are_taken(device, size, padding):
    image = torch.rand(1, *size, device=device)
    torch.testing.assert_close(ssim(image, image, padding=padding).item(), 1.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", ["Mean", "all", None, 0, ["mean"]], ids=repr)
@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("window", "'gaussian', 'uniform' or its taps"),
        ("padding", "'valid', 'same', 'reflect' or 'symmetric'"),
        ("reduction", "'mean', 'sum', 'none' or 'map'"),
        ("component", "'index', 'contrast_structure' or 'luminance'"),
    ],
)
def test_unknown_options_are_refused(images, option, wanted, value):
    check_refusal(ValueError, f"{option} must be {wanted}, got {value!r}", images, **{option: value})


@pytest.mark.parametrize("value", [-1, 0, 1, 2, 10, 32])
def test_window_sizes_out_of_range_are_refused(images, value):
    message = f"window_size must be odd and at least 3, got {value}"
    check_refusal(ValueError, message, images, window_size=value)


@pytest.mark.parametrize("value", [11.0, "11", None, True], ids=repr)
def test_window_sizes_that_are_no_integers_are_refused(images, value):
    check_refusal(TypeError, f"window_size must be an integer, got {value!r}", images, window_size=value)


@pytest.mark.parametrize("option", ["data_range", "window_sigma", "k1", "k2"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused(images, option, value):
    message = f"{option} must be finite and positive, got {value}"
    check_refusal(ValueError, message, images, **{option: value})


@pytest.mark.parametrize("option", ["data_range", "window_sigma", "k1", "k2"])
@pytest.mark.parametrize("value", ["1", 1j, True, {}], ids=repr)
def test_numbers_of_other_types_are_refused(images, option, value):
    check_refusal(TypeError, f"{option} must be a number, got {value!r}", images, **{option: value})


@pytest.mark.parametrize("option", ["window_sigma", "k1", "k2"])
@pytest.mark.parametrize("value", [None, torch.tensor(1.0)], ids=repr)
def test_only_the_data_range_may_be_absent_or_a_tensor(images, option, value):
    check_refusal(TypeError, f"{option} must be a number, got {value!r}", images, **{option: value})


@pytest.mark.parametrize("value", [[[True]], 1.0, True, np.ones((16, 20), dtype=bool)], ids=repr)
def test_masks_that_are_no_tensors_are_refused(images, value):
    message = f"mask must be a torch.Tensor or None, got {type(value).__name__}"
    check_refusal(TypeError, message, images, mask=value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64], ids=str)
def test_masks_of_other_dtypes_are_refused(images, device, dtype):
    message = f"mask must have dtype torch.bool, True where a pixel is valid, got {dtype}"
    check_refusal(TypeError, message, images, mask=torch.ones(16, 20, dtype=dtype, device=device))


def test_sparse_masks_are_refused(images, device):
    mask = torch.ones(16, 20, dtype=torch.bool, device=device).to_sparse()
    check_refusal(TypeError, "mask must be a dense tensor, got layout torch.sparse_coo", images, mask=mask)


def test_masks_on_other_devices_are_refused(images, device):
    message = f"mask must be on the device of x, {images['x'].device}, got meta"
    check_refusal(ValueError, message, images, mask=torch.ones(16, 20, dtype=torch.bool, device="meta"))


@pytest.mark.parametrize(
    "shape",
    [(19,), (20, 16), (2, 16, 20), (2, 3, 16, 21), (1, 2, 3, 16, 20), (1, 1, 1, 1, 1), (0, 3, 16, 20)],
    ids=str,
)
def test_masks_that_do_not_broadcast_are_refused(images, device, shape):
    message = f"mask must broadcast to the shape of x, [2, 3, 16, 20], got shape {list(shape)}"
    mask = torch.ones(shape, dtype=torch.bool, device=device)
    check_refusal(ValueError, message, images, mask=mask)


@pytest.mark.parametrize("function", [ms_ssim, reconstruction_loss])
def test_functions_of_images_alone_refuse_volumes(device, function):
    volume = torch.zeros(1, 3, 11, 16, 20, device=device)
    with pytest.raises(
        ValueError,
        match=r"^x must have shape \[N, C, H, W\] or \[C, H, W\] or \[H, W\], got \[1, 3, 11, 16, 20\]",
    ):
        function(volume, volume)


@pytest.mark.parametrize("function", [ms_ssim, reconstruction_loss])
@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "x must be a torch.Tensor, got NoneType", {"x": None}),
        (ValueError, "y must have the shape of x, [2, 3, 16, 20], got [2]", {"y": torch.zeros(2)}),
        (TypeError, "window_size must be an integer, got 3.0", {"window_size": 3.0}),
        (ValueError, "window must be 'gaussian', 'uniform' or its taps, got 'box'", {"window": "box"}),
        (ValueError, "data_range must be finite and positive, got 0", {"data_range": 0}),
    ],
)
def test_other_functions_of_images_refuse_the_same(images, device, function, error, message, change):
    arguments = images | {name: value.to(device) if name == "y" else value for name, value in change.items()}
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        function(**arguments)


def test_options_go_by_their_names_only(images):
    with pytest.raises(TypeError, match="takes 2 positional arguments"):
        ssim(*images.values(), 255.0)
