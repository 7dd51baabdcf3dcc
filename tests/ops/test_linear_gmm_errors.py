"""The errors of `linear_gmm_nll` for arguments that do not fit, which are the same on all devices."""

import re

import pytest
import torch

from vtadl_ext import linear_gmm_nll

from .heads import SCALES, random_head


@pytest.fixture
def arguments(device):
    """Nine samples of five features under mixtures of three components, from seven features."""
    return random_head(9, 3, 5, device=device)[0] | {"num_components": 3}


@pytest.mark.parametrize("name", ["x", "h", "weight", "bias"])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda tensor: tensor.tolist(), TypeError, "must be a torch.Tensor, got list"),
        (
            lambda tensor: tensor.int(),
            TypeError,
            "must have dtype torch.float32, torch.float64, torch.bfloat16 or",
        ),
        (lambda tensor: tensor.to_sparse(), TypeError, "must be a dense tensor, got layout torch.sparse_coo"),
    ],
    ids=["list", "integers", "sparse"],
)
def test_tensors_of_another_kind_are_refused(arguments, name, change, error, message):
    with pytest.raises(error, match=f"^{name} {re.escape(message)}"):
        linear_gmm_nll(**arguments | {name: change(arguments[name])})


@pytest.mark.parametrize("name", ["h", "weight", "bias"])
def test_another_dtype_or_device_than_that_of_x_is_refused(arguments, name):
    with pytest.raises(
        TypeError, match=f"^{name} must have the dtype of x, torch.float32, got torch.float64$"
    ):
        linear_gmm_nll(**arguments | {name: arguments[name].double()})
    with pytest.raises(ValueError, match=f"^{name} must be on the device of x, .*, got meta$"):
        linear_gmm_nll(**arguments | {name: arguments[name].to("meta")})


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (), "x must have shape [*, D] with D >= 1, got []"),
        ("x", (9, 0), "x must have shape [*, D] with D >= 1, got [9, 0]"),
        ("h", (9, 0), "h must have shape [*, H] with H >= 1, got [9, 0]"),
        ("h", (8, 7), "h has leading dimensions [8], which do not broadcast with those of x, [9]"),
        (
            "h",
            (9, 6),
            "weight must have shape [33 or 21, 6], with K = 3, shared_scale = False, D = 5 from x and",
        ),
        (
            "x",
            (9, 4),
            "weight must have shape [27 or 18, 7], with K = 3, shared_scale = False, D = 4 from x and",
        ),
        ("weight", (33,), "weight must have shape [33 or 21, 7], with K = 3,"),
        ("weight", (32, 7), "weight must have shape [33 or 21, 7], with K = 3,"),
        ("weight", (21, 7), "bias must have shape [21], one for each row of weight, got [33]"),
        ("bias", (33, 1), "bias must have shape [33], one for each row of weight, got [33, 1]"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused(arguments, name, shape, message):
    tensor = torch.zeros(shape, device=arguments["x"].device)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        linear_gmm_nll(**arguments | {name: tensor})


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("num_components", 0, ValueError, "num_components must be at least 1, got 0"),
        ("num_components", 3.0, TypeError, "num_components must be an integer, got 3.0"),
        ("num_components", True, TypeError, "num_components must be an integer, got True"),
        ("num_components", 4, ValueError, "weight must have shape [44 or 28, 7], with K = 4"),
        ("shared_scale", 1, TypeError, "shared_scale must be True or False, got 1"),
        (
            "shared_scale",
            True,
            ValueError,
            "weight must have shape [23 or 19, 7], with K = 3, shared_scale = True",
        ),
        ("scale_param", "sigma", ValueError, "scale_param must be 'log_std', 'std'"),
        ("min_std", -1, ValueError, "min_std must be finite and at least 0, got -1"),
        ("min_std", "0", TypeError, "min_std must be a number, got '0'"),
        ("mixture", "sum", ValueError, "mixture must be 'logsumexp' or 'weighted', got 'sum'"),
        ("reduction", "max", ValueError, "reduction must be 'mean', 'sum' or 'none', got 'max'"),
        ("memory_budget", 0, ValueError, "memory_budget must be at least 1, got 0"),
        ("memory_budget", 1e6, TypeError, "memory_budget must be an integer, got 1000000.0"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(arguments, option, value, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        linear_gmm_nll(**arguments | {option: value})


def test_one_feature_has_one_kind_of_scale(device):
    for scale, (_, shared) in SCALES.items():
        tensors, options = random_head(9, 3, 1, scale=scale, device=device)
        assert linear_gmm_nll(**tensors, **options).isfinite()
        with pytest.raises(ValueError, match=r"^weight must have shape \[\d+, 7\]"):
            linear_gmm_nll(**tensors, **options | {"shared_scale": not shared})
