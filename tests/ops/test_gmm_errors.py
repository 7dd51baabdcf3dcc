"""The errors of `gmm_nll` for arguments that do not fit, which are the same on all devices."""

import re

import numpy as np
import pytest
import torch

from vtadl_ext import (
    GMMNLLLoss,
    gmm_log_prob,
    gmm_nll,
    gmm_responsibilities,
    gmm_sample,
    reference,
)

from .mixtures import check_gmm, random_mixture

FLOATING = "torch.float32, torch.float64, torch.bfloat16 or torch.float16"


@pytest.fixture
def arguments(device):
    """Three samples of five features under a mixture of four components."""
    return random_mixture((3, 5), (4,), (4, 5), (4, 5), device=device)


@pytest.fixture
def tril_arguments(device):
    """The same with full covariances."""
    return random_mixture((3, 5), (4,), (4, 5), scale_tril=(4, 5, 5), device=device)


@pytest.mark.parametrize("name", ["x", "logits", "mu", "scale"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([[1.0, 2.0]], "list"),
        (1.0, "float"),
        (True, "bool"),
        (np.zeros((4, 5)), "ndarray"),
    ],
    ids=["list", "float", "bool", "numpy"],
)
def test_anything_but_a_tensor_is_refused(arguments, name, value, kind):
    with pytest.raises(TypeError, match=f"^{name} must be a torch.Tensor, got {kind}$"):
        gmm_nll(**arguments | {name: value})


@pytest.mark.parametrize("name", ["x", "logits", "mu"])
def test_nothing_is_no_tensor(arguments, name):
    with pytest.raises(TypeError, match=f"^{name} must be a torch.Tensor, got NoneType$"):
        gmm_nll(**arguments | {name: None})


@pytest.mark.parametrize("function", [gmm_nll, gmm_log_prob, gmm_responsibilities])
def test_one_kind_of_scale_is_wanted(arguments, tril_arguments, function):
    with pytest.raises(ValueError, match=r"^exactly one of scale and scale_tril must be given, got both$"):
        function(**arguments | tril_arguments)
    del arguments["scale"]
    with pytest.raises(ValueError, match=r"^exactly one of scale and scale_tril must be given, got neither$"):
        function(**arguments)


@pytest.mark.parametrize(
    ("option", "value", "default"), [("scale_param", "std", "'log_std'"), ("min_std", 0.1, "0.0")]
)
def test_options_of_scale_are_refused_with_scale_tril(tril_arguments, option, value, default):
    message = f"{option} is for scale: with scale_tril it must be {default}, got {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gmm_nll(**tril_arguments, **{option: value})


@pytest.mark.parametrize("function", [gmm_nll, gmm_log_prob, gmm_responsibilities])
def test_full_covariances_of_many_features_are_refused_and_the_alternatives_named(device, function):
    inputs = random_mixture((3, 9), (4,), (4, 9), scale_tril=(4, 9, 9), device=device)
    message = "scale_tril takes at most 8 features, got D = 9 from x; .*vtadl_ext.reference, or scale"
    with pytest.raises(ValueError, match=message):
        function(**inputs)
    assert getattr(reference, function.__name__)(**inputs).isfinite().all()


@pytest.mark.parametrize("shape", [(), (5,), (5, 5), (3, 5, 5), (4, 5, 1), (4, 1, 5), (4, 6, 6)], ids=str)
def test_factors_of_other_shapes_are_refused(tril_arguments, shape):
    wanted = "[*, 4 or 1, 5, 5], with K = 4 from logits and D = 5 from x"
    message = f"scale_tril must have shape {wanted}, got {list(shape)}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gmm_nll(**tril_arguments | {"scale_tril": torch.zeros(shape, device=tril_arguments["x"].device)})


@pytest.mark.parametrize(
    ("name", "dtype", "device_of", "error"),
    [
        (
            "scale_tril",
            torch.float64,
            None,
            "scale_tril must have the dtype of x, torch.float32, got torch.float64",
        ),
        ("scale_tril", None, "meta", "scale_tril must be on the device of x, .*, got meta"),
    ],
    ids=["dtype", "device"],
)
def test_factors_unlike_the_samples_are_refused(tril_arguments, name, dtype, device_of, error):
    changed = tril_arguments[name].to(device=device_of, dtype=dtype)
    with pytest.raises((TypeError, ValueError), match=error):
        gmm_nll(**tril_arguments | {name: changed})


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
@pytest.mark.parametrize("shape", [(), (5,), (4,), (2, 5), (5, 4), (3, 4, 2), (4, 5, 1)], ids=shape_id)
def test_parameters_that_do_not_fit_the_logits_and_samples_are_refused(arguments, name, shape):
    wanted = "[*, 4 or 1, 5 or 1], with K = 4 from logits and D = 5 from x"
    message = f"{name} must have shape {wanted}, got {list(shape)}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gmm_nll(**arguments | {name: arguments[name].new_zeros(shape)})


@pytest.mark.parametrize("value", ["Mean", "", None, 0, ["mean"]], ids=repr)
@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("scale_param", "'log_std', 'std', 'log_var', 'var', 'softplus' or 'precision'"),
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
    with pytest.raises(TypeError, match="takes from 3 to 4 positional arguments"):
        gmm_nll(*arguments.values(), "std")


def test_as_many_alternating_broadcasts_as_there_can_be_are_served(device):
    shapes = [(*[2, 1] * 5, 3), (4,), (*[1, 2] * 5, 4, 3), (4, 3)]
    check_gmm(random_mixture(*shapes, device=device), reduction="none")


@pytest.mark.parametrize("function", [gmm_log_prob, gmm_responsibilities])
@pytest.mark.parametrize("name", ["x", "logits", "mu", "scale"])
def test_the_other_functions_check_the_same(arguments, function, name):
    with pytest.raises(TypeError, match=f"^{name} must be a torch.Tensor, got list$"):
        function(**arguments | {name: [1.0]})
    with pytest.raises(ValueError, match=r"^scale_param must be "):
        function(**arguments, scale_param="sigma")


@pytest.fixture
def sampled(arguments):
    """The mixture of `arguments` alone."""
    del arguments["x"]
    return arguments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": torch.zeros(0)}, "logits must have shape [*, K] with K >= 1, got [0]"),
        ({"mu": torch.zeros(())}, "D = 5 from the larger of mu and scale, got []"),
        ({"mu": torch.zeros(4, 3)}, "mu must have shape [*, 4 or 1, 5 or 1], with K = 4 from logits"),
        ({"scale": torch.zeros(3, 5)}, "scale must have shape [*, 4 or 1, 5 or 1], with K = 4 from logits"),
        ({"scale": None}, "exactly one of scale and scale_tril must be given, got neither"),
        ({"scale": None, "scale_tril": torch.zeros(4, 5, 4)}, "scale_tril must have shape [*, 4 or 1, 5, 5]"),
        ({"min_std": -1.0}, "min_std must be finite and at least 0, got -1.0"),
        ({"sample_shape": (2, -1)}, "sample_shape must hold no negative sizes, got (2, -1)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_mixtures_that_do_not_fit_are_not_sampled(sampled, changes, message):
    device = sampled["mu"].device
    moved = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in changes.items()
    }
    with pytest.raises(ValueError, match=re.escape(message)):
        gmm_sample(**sampled | moved)


@pytest.mark.parametrize("value", [3, "23", (2.0,), torch.tensor([2]), [True]], ids=repr)
def test_sample_shapes_that_are_none_are_refused(sampled, value):
    message = f"sample_shape must be a sequence of integers, got {value!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        gmm_sample(**sampled, sample_shape=value)


def test_generators_of_another_kind_or_device_are_refused(sampled):
    with pytest.raises(TypeError, match=r"^generator must be a torch\.Generator or None, got int$"):
        gmm_sample(**sampled, generator=0)
    meta = {name: tensor.to("meta") for name, tensor in sampled.items()}
    with pytest.raises(ValueError, match=r"^generator must be on the device of logits, meta, got cpu$"):
        gmm_sample(**meta, generator=torch.Generator())


@pytest.mark.parametrize(
    ("option", "value"),
    [("scale_param", "sigma"), ("min_std", -1.0), ("mixture", "sum"), ("reduction", None)],
)
def test_the_module_refuses_unknown_options_when_it_is_made(option, value):
    with pytest.raises(ValueError, match=f"^{option} must be "):
        GMMNLLLoss(**{option: value})
