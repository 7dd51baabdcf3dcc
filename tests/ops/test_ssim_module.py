"""`SSIMLoss`, the module form of `ssim`, and the functions' equals in the reference."""

import copy
import inspect
import pickle

import pytest
import torch

import vtadl_ext
from vtadl_ext import SSIMLoss, _binary, reconstruction_loss, reference, ssim

from .comparison import assert_close, value_and_grads
from .images import random_images, random_mask

OPTIONS = {
    "data_range": 2.0,
    "window": "uniform",
    "window_size": 7,
    "window_sigma": 1.0,
    "k1": 0.02,
    "k2": 0.05,
    "padding": "reflect",
    "reduction": "none",
}


@pytest.mark.parametrize("options", [{}, OPTIONS, {"reduction": "map"}], ids=["defaults", "all", "one"])
def test_the_module_is_one_minus_the_function(device, options):
    images = random_images(2, 3, 14, 15, device=device)
    mask = random_mask(14, 15, device=device)
    assert torch.equal(SSIMLoss(**options)(*images.values()), 1 - ssim(**images, **options))
    masked = SSIMLoss(**options)(*images.values(), mask)
    assert torch.equal(masked, 1 - ssim(**images, mask=mask, **options))


@pytest.mark.parametrize("reduction", ["mean", "none", "map"])
def test_its_gradients_are_those_of_the_function(device, reduction):
    images = random_images(2, 3, 14, 15, device=device).values()
    value, grads = value_and_grads(SSIMLoss(reduction=reduction), images)
    expected, expected_grads = value_and_grads(lambda x, y: 1 - ssim(x, y, reduction=reduction), images)
    assert_close("value", value, expected, 1e-6)
    for name, grad, right in zip("xy", grads, expected_grads, strict=True):
        assert_close(f"gradient of {name}", grad, right, 1e-6)


def test_backward_of_the_mean_multiplies_no_image(device, monkeypatch):
    factors = []

    class Operators:
        def __getattr__(self, name):
            return getattr(actual, name)

        def scale_(self, tensor, factor):
            factors.append(factor.item())

    actual = _binary.ops
    monkeypatch.setattr(_binary, "ops", Operators())
    x, y = (image.requires_grad_() for image in random_images(2, 3, 14, 15, device=device).values())
    SSIMLoss()(x, y).backward()
    ssim(x, y).backward()
    reconstruction_loss(x, y, mse=3.0, ssim=0.2).backward()
    assert factors == [1.0] * 6


def test_its_text_names_the_options():
    text = (
        "SSIMLoss(data_range=2.0, window='uniform', window_size=7, window_sigma=1.0, k1=0.02, k2=0.05, "
        "padding='reflect', reduction='none')"
    )
    assert repr(SSIMLoss(**OPTIONS)) == text


def test_it_has_no_state_and_can_be_copied():
    loss = SSIMLoss(**OPTIONS)
    assert not loss.state_dict()
    images = random_images(2, 3, 14, 15)
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(again(**images), loss(**images))


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "window_size must be odd and at least 3, got 8", {"window_size": 8}),
        (TypeError, "k1 must be a number, got None", {"k1": None}),
        (
            ValueError,
            "padding must be 'valid', 'same', 'reflect' or 'symmetric', got 'zeros'",
            {"padding": "zeros"},
        ),
        (ValueError, "reduction must be 'mean', 'sum', 'none' or 'map', got 'all'", {"reduction": "all"}),
        (ValueError, "window must be 'gaussian', 'uniform' or its taps, got 'box'", {"window": "box"}),
    ],
)
def test_it_refuses_options_when_it_is_made(error, message, options):
    with pytest.raises(error, match=f"^{message}$"):
        SSIMLoss(**options)


def test_it_exports_with_any_number_of_images(compiled_device):
    images, number = random_images(2, 3, 14, 15, device=compiled_device), torch.export.Dim("images", min=2)
    program = torch.export.export(SSIMLoss(), tuple(images.values()), dynamic_shapes=({0: number},) * 2)
    inputs = random_images(5, 3, 14, 15, device=compiled_device).values()
    assert_close("value", program.module()(*inputs), SSIMLoss()(*inputs), 1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ssim", {"padding": "same"}),
        ("ms_ssim", {"weights": (0.5, 0.5)}),
        ("reconstruction_loss", {"l1": 1.0}),
    ],
)
def test_devices_without_kernels_run_the_reference_of_each_function(monkeypatch, name, options, masked):
    monkeypatch.setattr(_binary, "has_kernels", lambda *_, **__: False)
    monkeypatch.setattr(_binary, "ops", None)
    if masked and name == "ssim":
        options = options | {"mask": random_mask(14, 15)}
    inputs = random_images(2, 14, 15)
    value = getattr(vtadl_ext, name)(**inputs, window_size=7, **options)
    assert torch.equal(value, getattr(reference, name)(**inputs, window_size=7, **options))


@pytest.mark.parametrize("name", ["ssim", "ms_ssim", "reconstruction_loss"])
def test_the_reference_has_the_same_signature(name):
    assert inspect.signature(getattr(vtadl_ext, name)) == inspect.signature(getattr(reference, name))
