"""What `gmm_nll` says of arguments that do not fit, on all devices alike."""

import re

import numpy as np
import pytest
import torch

from vtadl_ext import gmm_nll, reference

from .mixtures import random_mixture

FLOATING = "torch.float32, torch.float64, torch.bfloat16 or torch.float16"


@pytest.fixture
def arguments(device):
    """Three samples of five features under a mixture of four components."""
    return random_mixture((3, 5), (4,), (4, 5), (4, 5), device=device)


@pytest.mark.parametrize("name", ["x", "logits", "mu", "scale"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([[1.0, 2.0]], "list"),
        (None, "NoneType"),
        (1.0, "float"),
        (True, "bool"),
        (np.zeros((4, 5)), "ndarray"),
    ],
    ids=["list", "none", "float", "bool", "numpy"],
)
def test_anything_but_a_tensor_is_refused(arguments, name, value, kind):
    with pytest.raises(TypeError, match=f"^{name} must be a torch.Tensor, got {kind}$"):
        gmm_nll(**arguments | {name: value})


@pytest.mark.parametrize("name", ["x", "logits", "mu", "scale"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8], ids=str)
def test_tensors_of_other_numbers_are_refused(arguments, name, dtype):
    message = f"{name} must have dtype {FLOATING}, got {dtype}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        gmm_nll(**arguments | {name: arguments[name].to(dtype)})


@pytest.mark.parametrize("name", ["x", "logits", "mu", "scale"])
def test_sparse_tensors_are_refused(arguments, name):
    with pytest.raises(TypeError, match=f"^{name} must be a dense tensor, got layout torch.sparse_coo$"):
        gmm_nll(**arguments | {name: arguments[name].to_sparse()})


@pytest.mark.parametrize("name", ["logits", "mu", "scale"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_mixed_dtypes_are_refused(arguments, name, dtype):
    message = f"{name} must have the dtype of x, torch.float32, got {dtype}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        gmm_nll(**arguments | {name: arguments[name].to(dtype)})


@pytest.mark.parametrize("name", ["logits", "mu", "scale"])
def test_mixed_devices_are_refused(arguments, name):
    message = f"{name} must be on the device of x, {arguments['x'].device}, got meta"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gmm_nll(**arguments | {name: arguments[name].to("meta")})


def shape_id(value):
    return "x".join(map(str, value)) or "scalar" if isinstance(value, tuple) else None


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (), "x must have shape [*, D] with D >= 1, got []"),
        ("x", (3, 0), "x must have shape [*, D] with D >= 1, got [3, 0]"),
        ("logits", (), "logits must have shape [*, K] with K >= 1, got []"),
        ("logits", (0,), "logits must have shape [*, K] with K >= 1, got [0]"),
        ("logits", (2, 4), "logits has leading dimensions [2], which do not broadcast with [3]"),
        ("mu", (2, 4, 5), "mu has leading dimensions [2], which do not broadcast with [3]"),
        ("scale", (4, 3, 2, 4, 5), "scale has leading dimensions [4, 3, 2], which do not broadcast with [3]"),
    ],
    ids=shape_id,
)
def test_wrong_shapes_are_refused(arguments, name, shape, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gmm_nll(**arguments | {name: arguments[name].new_zeros(shape)})


@pytest.mark.parametrize("name", ["mu", "scale"])
@pytest.mark.parametrize("shape", [(), (5,), (4,), (1, 5), (5, 4), (3, 4, 2), (4, 5, 1)], ids=shape_id)
def test_parameters_that_do_not_fit_the_logits_and_samples_are_refused(arguments, name, shape):
    wanted = "[*, 4, 5] or [*, 4, 1], with K = 4 from logits and D = 5 from x"
    message = f"{name} must have shape {wanted}, got {list(shape)}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gmm_nll(**arguments | {name: arguments[name].new_zeros(shape)})


@pytest.mark.parametrize("value", ["Mean", "", None, 0, ["mean"]], ids=repr)
@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("scale_param", "'log_std', 'std', 'log_var', 'var' or 'softplus'"),
        ("mixture", "'logsumexp' or 'weighted'"),
        ("reduction", "'mean', 'sum' or 'none'"),
    ],
)
def test_unknown_options_are_refused(arguments, option, wanted, value):
    message = f"{option} must be {wanted}, got {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gmm_nll(**arguments, **{option: value})


@pytest.mark.parametrize("value", [-1e-3, float("nan"), float("inf"), -float("inf")])
def test_floors_out_of_range_are_refused(arguments, value):
    message = f"min_std must be finite and at least 0, got {value}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gmm_nll(**arguments, min_std=value)


@pytest.mark.parametrize("value", ["0.1", None, True, torch.tensor(0.1), [0.1]], ids=repr)
def test_floors_that_are_no_numbers_are_refused(arguments, value):
    with pytest.raises(TypeError, match=f"^{re.escape(f'min_std must be a number, got {value!r}')}$"):
        gmm_nll(**arguments, min_std=value)


def test_options_go_by_their_names_only(arguments):
    with pytest.raises(TypeError, match="takes 4 positional arguments"):
        gmm_nll(*arguments.values(), "std")


def test_more_alternating_broadcasts_than_the_kernels_take_are_refused(device):
    x = torch.zeros(*[2, 1] * 5, 3, device=device)
    mu = torch.zeros(*[1, 2] * 5, 4, 3, device=device)
    with pytest.raises(RuntimeError, match="alternate between broadcast and not broadcast too often; expand"):
        gmm_nll(x, mu.new_zeros(4), mu, mu.new_zeros(4, 3))


def test_the_second_derivative_is_refused_and_the_reference_named(arguments):
    x = arguments["x"].requires_grad_()
    (grad,) = torch.autograd.grad(gmm_nll(**arguments), x, create_graph=True)
    with pytest.raises(
        RuntimeError, match=r"gmm operators have first derivatives only.*vtadl_ext\.reference"
    ):
        torch.autograd.grad(grad.sum(), x)


def test_the_reference_has_the_second_derivative_that_is_refused(arguments):
    x = arguments["x"].requires_grad_()
    (grad,) = torch.autograd.grad(reference.gmm_nll(**arguments), x, create_graph=True)
    assert torch.autograd.grad(grad.sum(), x)[0].abs().sum() > 0
