"""Gradients that come along with the value, and what a graph is put through besides `backward`."""

import math
from functools import partial

import pytest
import torch
import torch.utils.checkpoint
from torch.func import vmap

from vtadl_ext import _ssim_ops, ms_ssim, reconstruction_loss, ssim

from .comparison import assert_close, assert_same_bits, dtype_id, value_and_grads
from .images import random_images, random_mask

MASK = random_mask(2, 1, 19, 24)


def masked(x, y, **options):
    return ssim(x, y, mask=MASK.to(x.device), **options)


SCALARS = {
    "mean": ssim,
    "masked mean": masked,
    "same": partial(ssim, padding="same"),
    "reflect": partial(ssim, padding="reflect"),
    "reconstruction": partial(reconstruction_loss, mse=2.0, l1=0.5, ssim=3.0),
}
FUNCTIONS = SCALARS | {
    "none": partial(ssim, reduction="none"),
    "masked none": partial(masked, reduction="none"),
    "map": partial(ssim, reduction="map"),
    "masked map": partial(masked, reduction="map"),
    "multi-scale": partial(ms_ssim, window_size=3, weights=(0.3, 0.7)),
}


def each(functions):
    ids = [name.replace(" ", "_") for name in functions]
    return pytest.mark.parametrize("function", functions.values(), ids=ids)


@pytest.fixture
def leaves(device):
    return [image.requires_grad_() for image in random_images(2, 3, 19, 24, device=device).values()]


def forbid_the_backward_operator(monkeypatch):
    def fail(*_):
        raise AssertionError("the gradients were computed a second time")

    monkeypatch.setattr(_ssim_ops, "gradients", fail)


@each(SCALARS)
def test_scalars_bring_their_gradients_along(leaves, monkeypatch, function):
    expected = torch.autograd.grad(function(*(leaf.double() for leaf in leaves)), leaves)
    forbid_the_backward_operator(monkeypatch)
    for name, grad, right in zip("xy", torch.autograd.grad(function(*leaves), leaves), expected, strict=True):
        assert_close(f"gradient of {name}", grad, right, 1e-5)


@each(SCALARS)
def test_float16_waits_for_the_upstream_gradient_of_a_loss_scaler(device, monkeypatch, function):
    images = random_images(2, 3, 19, 24, dtype=torch.float16, device=device)
    x, y = (image.requires_grad_() for image in images.values())
    (grad,) = torch.autograd.grad(2.0**14 * function(x, y), x)
    (expected,) = torch.autograd.grad(2.0**14 * function(x.double(), y.double()), x)
    assert_close("gradient of x", grad, expected, 1e-3)
    value = function(x, y)
    forbid_the_backward_operator(monkeypatch)
    if function is SCALARS["reflect"]:  # padded in float32
        value.backward()
    else:
        with pytest.raises(AssertionError, match="a second time"):
            value.backward()


@each(FUNCTIONS)
@pytest.mark.parametrize("factor", [1.0, -0.3, 0.0])
def test_the_upstream_gradient_is_a_factor(leaves, function, factor):
    value = function(*leaves)
    grads = torch.autograd.grad(factor * value.sum(), leaves)
    for grad, unscaled in zip(grads, torch.autograd.grad(function(*leaves).sum(), leaves), strict=True):
        assert_close("gradient", grad, factor * unscaled, 1e-6)


@each(FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
def test_the_graph_can_be_used_again(device, function, dtype):
    images = random_images(2, 3, 19, 24, dtype=dtype, device=device).values()
    leaves = [image.requires_grad_() for image in images]
    value = function(*leaves)
    upstream = torch.ones_like(value)
    first = torch.autograd.grad(value, leaves, upstream, retain_graph=True)
    copies = [grad.clone() for grad in first]
    for _ in range(2):
        again = torch.autograd.grad(value, leaves, 2 * upstream, retain_graph=True)
        tolerance = 1e-2 if dtype == torch.bfloat16 else 2e-6
        for name, grad, doubled, before in zip("xy", first, again, copies, strict=True):
            assert torch.equal(grad, before)
            assert_close(f"second gradient of {name}", doubled, 2 * before, tolerance)


@each(FUNCTIONS)
def test_backward_adds_to_the_gradients_that_are_there(leaves, function):
    expected = torch.autograd.grad(function(*leaves).sum(), leaves)
    value = function(*leaves).sum()
    value.backward(retain_graph=True)
    value.backward()
    for leaf, once in zip(leaves, expected, strict=True):
        assert_close("gradient", leaf.grad, 2 * once, 2e-6)


@each(FUNCTIONS)
def test_a_gradient_with_a_graph_is_right(leaves, function):
    expected = torch.autograd.grad(function(*leaves).sum(), leaves)
    grads = torch.autograd.grad(function(*leaves).sum(), leaves, create_graph=True)
    for grad, plain in zip(grads, expected, strict=True):
        assert_close("gradient", grad, plain, 2e-6)


@each(FUNCTIONS)
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_changes_nothing(leaves, function, use_reentrant):
    value = function(*leaves)
    expected = torch.autograd.grad(math.cos(1) * value.sum(), leaves)
    again = torch.utils.checkpoint.checkpoint(function, *leaves, use_reentrant=use_reentrant)
    (math.cos(1) * again.sum()).backward()
    assert_close("value", again, value, 1e-6)
    for leaf, grad in zip(leaves, expected, strict=True):
        assert_close("gradient", leaf.grad, grad, 2e-6)


@each(FUNCTIONS)
@pytest.mark.parametrize("how", ["is_grads_batched", "vmap"])
def test_a_batch_of_upstream_gradients_is_a_loop(compiled_device, function, how):
    images = random_images(2, 3, 19, 24, device=compiled_device).values()
    leaves = [image.requires_grad_() for image in images]
    value = function(*leaves)
    upstream = torch.randn(2, *value.shape, device=compiled_device)
    expected = [torch.autograd.grad(value, leaves, one, retain_graph=True) for one in upstream]
    value = function(*leaves)
    if how == "vmap":
        grads = vmap(lambda one: torch.autograd.grad(value, leaves, one))(upstream)
    else:
        grads = torch.autograd.grad(value, leaves, upstream, is_grads_batched=True)
    for name, batch, *single in zip("xy", grads, *expected, strict=True):
        assert_close(f"gradient of {name}", batch, torch.stack(single), 2e-6)


@each(FUNCTIONS)
def test_gradients_have_the_strides_of_their_images(device, function):
    for layout in (torch.contiguous_format, torch.channels_last):
        images = random_images(2, 3, 19, 24, device=device).values()
        leaves = [image.contiguous(memory_format=layout).requires_grad_() for image in images]
        function(*leaves).sum().backward()
        for leaf in leaves:
            assert leaf.grad.is_contiguous(memory_format=layout)


@each(FUNCTIONS)
def test_nothing_is_recorded_without_need(device, function):
    images = random_images(2, 3, 19, 24, device=device).values()
    assert not function(*images).requires_grad
    leaves = [image.requires_grad_() for image in images]
    with torch.no_grad():
        assert not function(*leaves).requires_grad


@each(FUNCTIONS)
@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["x", "y"])
def test_a_gradient_alone_is_the_same_as_with_the_other(device, function, needs):
    images = random_images(2, 3, 19, 24, device=device).values()
    _, both = value_and_grads(function, images)
    _, one = value_and_grads(function, images, needs)
    for together, alone, need in zip(both, one, needs, strict=True):
        if need:
            assert_close("gradient", alone, together, 1e-6)
        else:
            assert alone is None


@each(FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
def test_repeated_runs_give_the_same_bits(device, function, dtype):
    images = random_images(2, 3, 19, 24, dtype=dtype, device=device).values()
    assert_same_bits(function, images)
