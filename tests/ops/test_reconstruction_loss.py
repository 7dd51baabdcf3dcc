"""`reconstruction_loss` against its terms from PyTorch and the reference of `ssim`."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, vmap

from vtadl_ext import ReconstructionTerms, _binary, reconstruction_loss, reference

from .comparison import DTYPES, LAYOUTS, assert_close, assert_same_bits, dtype_id, value_and_grads
from .images import check_ssim, random_images

WEIGHTS = pytest.mark.parametrize(
    "weights",
    [
        {},
        {"mse": 5.0, "l1": 0.7, "ssim": 0.5},
        {"mse": 0},
        {"ssim": 0},
        {"mse": 0, "ssim": 0, "l1": 1},
        {"mse": 2, "l1": 3, "ssim": 0},
    ],
    ids=str,
)
everything = partial(reconstruction_loss, mse=2.0, l1=0.5, ssim=3.0)


def from_its_terms(x, y, mse=1.0, l1=0.0, ssim=1.0, **options):
    index = reference.ssim(x, y, **options)
    return mse * F.mse_loss(x, y) + l1 * F.l1_loss(x, y) + ssim * (1 - index)


@WEIGHTS
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)], ids=str)
def test_it_is_the_sum_of_its_terms(device, weights, dtype, needs):
    images = random_images(2, 3, 19, 24, dtype=dtype, device=device)
    if dtype == torch.float16:
        images = {name: image[:1, :1] for name, image in images.items()}  # gradients are normal numbers
    check_ssim(images, reconstruction_loss, from_its_terms, needs=needs, **weights)


@pytest.mark.parametrize(
    "options",
    [
        {"data_range": 3.0},
        {"window": "uniform"},
        {"window_size": 5, "window_sigma": 0.7},
        {"k1": 1.0, "k2": 0.2},
    ],
    ids=str,
)
def test_options_reach_the_index(device, options):
    images = random_images(2, 19, 24, device=device)
    check_ssim(images, reconstruction_loss, from_its_terms, **options)
    assert not torch.allclose(
        reconstruction_loss(**images, **options), reconstruction_loss(**images), rtol=1e-5
    )


@WEIGHTS
def test_the_reference_is_the_sum_of_its_terms_too(weights):
    images = random_images(2, 3, 19, 24, dtype=torch.float64)
    check_ssim(images, reference.reconstruction_loss, from_its_terms, **weights)


@WEIGHTS
@pytest.mark.parametrize("needs", [True, False])
def test_the_terms_come_along_without_weights_and_gradients(device, weights, needs):
    x, y = random_images(2, 3, 19, 24, device=device).values()
    x.requires_grad_(needs)
    loss, terms = reconstruction_loss(x, y, **weights, return_terms=True)
    assert isinstance(terms, ReconstructionTerms)
    expected = {"mse": F.mse_loss(x, y), "l1": F.l1_loss(x, y), "ssim": reference.ssim(x, y)}
    for name, term in terms._asdict().items():
        assert not term.requires_grad
        assert_close(name, term, expected[name], 2e-6)
    assert_close("loss", loss, reconstruction_loss(x, y, **weights), 1e-6)
    assert loss.requires_grad == needs


def test_no_weights_are_no_loss(device):
    images = random_images(2, 3, 19, 24, device=device)
    value, grads = value_and_grads(partial(reconstruction_loss, mse=0, ssim=0), images.values())
    assert value == 0
    assert not any(grad.any() for grad in grads)
    assert reference.reconstruction_loss(**images, mse=0, ssim=0) == 0


def test_equal_images_cost_nothing(device):
    x = random_images(2, 3, 19, 24, device=device)["x"]
    value, grads = value_and_grads(everything, [x, x.clone()])
    assert abs(value.item()) < 1e-5
    assert all(grad.isfinite().all() for grad in grads)


def test_equal_pixels_have_no_gradient_of_absolute_errors(device):
    x, y = random_images(1, 12, 13, device=device).values()
    y[0, 3] = x[0, 3]
    loss = partial(reconstruction_loss, mse=0, l1=1, ssim=0)
    _, grads = value_and_grads(loss, [x, y])
    assert not any(grad[0, 3].any() for grad in grads)


@pytest.mark.parametrize(
    "layout",
    [*LAYOUTS.values(), lambda image: image.contiguous(memory_format=torch.channels_last)],
    ids=[*LAYOUTS, "channels_last"],
)
def test_strides_do_not_matter(device, layout):
    images = list(random_images(2, 3, 19, 24, device=device).values())
    value, grads = value_and_grads(everything, [layout(image) for image in images])
    expected, expected_grads = value_and_grads(everything, images)
    assert_close("value", value, expected, 1e-6)
    for name, grad_of_relaid, expected_grad in zip("xy", grads, expected_grads, strict=True):
        assert_close(f"gradient of {name}", grad_of_relaid, expected_grad, 1e-5)


@pytest.mark.parametrize("shape", [(0, 3, 19, 24), (2, 0, 19, 24), (0, 19, 24)], ids=str)
def test_no_planes_have_loss_nan(device, shape):
    images = [torch.zeros(shape, device=device) for _ in "xy"]
    value, grads = value_and_grads(everything, images)
    assert value.isnan()
    assert all(grad.shape == shape for grad in grads)
    _, terms = everything(*images, return_terms=True)
    assert all(term.isnan() for term in terms)


def test_single_images_are_taken(device):
    x, y = random_images(3, 19, 24, device=device).values()
    assert_close("loss", everything(x, y), everything(x[None], y[None]), 1e-6)


def test_gradients_are_those_of_finite_differences(device):
    images = random_images(1, 4, 3, dtype=torch.float64, device=device).values()
    function = partial(everything, window_size=3)
    assert torch.autograd.gradcheck(function, [image.requires_grad_() for image in images], nondet_tol=1e-12)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compilation_changes_nothing(compiled_device, backend):
    torch.compiler.reset()

    def loss(x, y):
        value, terms = everything(x.sigmoid(), y, return_terms=True)
        return value + 0 * sum(terms)

    images = random_images(2, 1, 14, 15, device=compiled_device).values()
    value, grads = value_and_grads(torch.compile(loss, fullgraph=True, backend=backend), images)
    expected, expected_grads = value_and_grads(loss, images)
    assert_close("value", value, expected, 1e-6)
    for name, compiled_grad, expected_grad in zip("xy", grads, expected_grads, strict=True):
        assert_close(f"gradient of {name}", compiled_grad, expected_grad, 1e-5)


def test_it_exports_with_any_number_of_images(compiled_device):
    class Loss(torch.nn.Module):
        def forward(self, x, y):
            return everything(x, y, return_terms=True)

    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(
        Loss(),
        tuple(random_images(2, 1, 14, 15, device=compiled_device).values()),
        dynamic_shapes=({0: batch},) * 2,
    )
    images = random_images(5, 1, 14, 15, device=compiled_device).values()
    (value, terms), (expected, expected_terms) = program.module()(*images), Loss()(*images)
    assert_close("value", value, expected, 1e-6)
    assert_close("terms", torch.stack(list(terms)), torch.stack(list(expected_terms)), 1e-6)


def test_vmap_is_a_loop(compiled_device):
    x, y = random_images(3, 2, 14, 15, device=compiled_device).values()
    expected = torch.stack([everything(*pair) for pair in zip(x, y, strict=True)])
    assert_close("value", vmap(everything)(x, y), expected, 1e-6)
    of_loop = torch.stack([grad(everything)(*pair) for pair in zip(x, y, strict=True)])
    assert_close("gradient of x", vmap(grad(everything))(x, y), of_loop, 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_id)
def test_autocast_changes_nothing(device, dtype):
    x, y = random_images(1, 2, 14, 15, device=device).values()
    with torch.autocast(device.type, dtype):
        value = everything(x, y.to(dtype))
    assert value.dtype == torch.float32
    assert_close("value", value, everything(x, y.to(dtype).float()), 1e-6)


def test_repeated_runs_give_the_same_bits(device):
    images = random_images(2, 2, 50, 140, device=device).values()
    assert_same_bits(everything, images)


def test_devices_without_kernels_run_the_reference(monkeypatch):
    monkeypatch.setattr(_binary, "has_kernels", lambda *_: False)
    monkeypatch.setattr(_binary, "ops", None)
    images = random_images(2, 2, 14, 15)
    loss, terms = everything(**images, return_terms=True)
    expected, expected_terms = reference.reconstruction_loss(
        **images, mse=2.0, l1=0.5, ssim=3.0, return_terms=True
    )
    assert torch.equal(loss, expected)
    assert all(torch.equal(*pair) for pair in zip(terms, expected_terms, strict=True))


@pytest.mark.parametrize("name", ["mse", "l1", "ssim"])
@pytest.mark.parametrize(
    ("error", "wanted", "value"),
    [
        (ValueError, "finite and at least 0", -1.0),
        (ValueError, "finite and at least 0", float("nan")),
        (ValueError, "finite and at least 0", float("inf")),
        (TypeError, "a number", "1"),
        (TypeError, "a number", None),
        (TypeError, "a number", True),
    ],
    ids=repr,
)
def test_weights_that_do_not_fit_are_refused(device, name, error, wanted, value):
    images = random_images(2, 14, 15, device=device)
    with pytest.raises(error, match=f"^{name} must be {wanted}, got"):
        reconstruction_loss(**images, **{name: value})


def test_images_smaller_than_the_window_are_refused_even_without_the_index(device):
    image = torch.zeros(1, 10, 20, device=device)
    message = "^x must be at least 11 x 11 pixels for window_size = 11, got 10 x 20$"
    with pytest.raises(ValueError, match=message):
        reconstruction_loss(image, image, ssim=0)
