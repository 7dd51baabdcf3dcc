"""The raw operator that writes the gradients of mu and scale over mu and scale themselves."""

import pytest
import torch

from vtadl_ext import _binary

from .comparison import DTYPES, GRAD_TOLERANCE, LAYOUTS, assert_close, dtype_id
from .mixtures import SCALE_PARAMS, per_sample

# Samples, components, features: around the sizes of warps, vectors and packs, for each of the kernels.
SIZES = [
    (7, 1, 1),
    (40, 5, 1),
    (67, 3, 2),
    (19, 33, 3),
    (3, 150, 4),
    (40, 4, 8),
    (33, 40, 15),
    (17, 3, 16),
    (40, 12, 16),
    (40, 6, 33),
    (2, 5, 512),
    (1, 3, 700),
]
MIXTURES = pytest.mark.parametrize("mixture", [0, 1], ids=_binary.MIXTURES)


def in_place(grad, inputs, *options):
    """log_prob and all four gradients."""
    x, logits, mu, scale = (tensor.clone() for tensor in inputs)
    results = _binary.ops.gmm_forward_backward_(grad, x, logits, mu, scale, *options)
    return *results, mu, scale


def assert_same_bits(inputs, mixture):
    options = (0, 0.9, mixture)
    expected = _binary.ops.gmm_forward_backward(-0.5, *inputs, *options, True, True, True, True)
    grad = torch.full_like(expected[0], -0.5)
    for result, wanted in zip(in_place(grad, inputs, *options, True), expected, strict=True):
        assert torch.equal(result, wanted)


@MIXTURES
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_the_bits_are_those_of_gradients_in_memory_of_their_own(device, dtype, size, mixture):
    assert_same_bits(per_sample(*size, dtype=dtype, device=device).values(), mixture)


@MIXTURES
def test_large_mixtures_have_the_same_bits_too(real_device, mixture):
    assert_same_bits(per_sample(5, 150, 512, device=real_device).values(), mixture)


@MIXTURES
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale_param", SCALE_PARAMS)
def test_upstream_gradients_may_differ_from_sample_to_sample(device, scale_param, size, mixture):
    inputs = per_sample(*size, scale_param=scale_param, device=device).values()
    options = (_binary.SCALE_PARAM_NAMES.index(scale_param), 0.9, mixture)
    log_prob, components = _binary.ops.gmm_forward(*inputs, *options)
    grad = torch.arange(1, 1 + size[0], device=device).float().cos()
    expected = _binary.ops.gmm_backward(grad, log_prob, components, *inputs, *options, *[True] * 4)
    results = in_place(grad, inputs, *options, True)
    for result, wanted in zip(results, (log_prob, *expected), strict=True):
        assert_close("result", result, wanted, GRAD_TOLERANCE[torch.float32], at_least=1e-3)


@pytest.mark.parametrize("size", [(40, 5, 2), (40, 5, 20)], ids=str)
def test_masked_components_leave_zeros_whatever_they_held(device, size):
    x, logits, mu, scale = per_sample(*size, device=device).values()
    logits[::2, 1] = -torch.inf
    mu[::2, 1] = torch.nan
    logits[3] = -torch.inf
    grad = torch.ones(len(x), device=device)
    _, grad_x, grad_logits, grad_mu, grad_scale = in_place(grad, (x, logits, mu, scale), 0, 0.0, 0, True)
    for result in (grad_mu, grad_scale):
        assert not result[::2, 1].any()
        assert not result[3].any()
        assert result[1].all()
    assert grad_x.isfinite().all()
    assert grad_logits.isfinite().all()


@pytest.mark.parametrize("size", [(40, 5, 2), (40, 5, 20)], ids=str)
def test_the_gradient_of_x_is_left_out_where_nobody_needs_it(device, size):
    inputs = per_sample(*size, device=device).values()
    grad = torch.ones(size[0], device=device)
    log_prob, grad_x, *others = in_place(grad, inputs, 0, 0.0, 0, False)
    expected, _, *expected_others = in_place(grad, inputs, 0, 0.0, 0, True)
    assert grad_x.numel() == 0
    for result, wanted in zip((log_prob, *others), (expected, *expected_others), strict=True):
        assert torch.equal(result, wanted)


def test_it_takes_no_samples(device):
    inputs = per_sample(0, 3, 4, device=device).values()
    results = in_place(torch.ones(0, device=device), inputs, 0, 0.0, 0, True)
    assert [tuple(result.shape) for result in results] == [(0,), (0, 4), (0, 3), (0, 3, 4), (0, 3, 4)]


@pytest.mark.parametrize("name", ["mu", "scale"])
@pytest.mark.parametrize("shape", [(3, 4), (1, 3, 4), (5, 1, 4), (5, 3, 1)], ids=str)
def test_parameters_that_anything_shares_are_refused(device, name, shape):
    inputs = per_sample(5, 3, 4, device=device)
    inputs[name] = torch.ones(shape, device=device)
    with pytest.raises(RuntimeError, match=f"{name} must be contiguous, with elements for each sample"):
        _binary.ops.gmm_forward_backward_(torch.ones(5, device=device), *inputs.values(), 0, 0.0, 0, True)


@pytest.mark.parametrize("name", ["mu", "scale"])
@pytest.mark.parametrize("layout", ["transposed", "strided"])
def test_parameters_with_gaps_are_refused(device, name, layout):
    inputs = per_sample(5, 3, 4, device=device)
    inputs[name] = LAYOUTS[layout](inputs[name])
    with pytest.raises(RuntimeError, match=f"{name} must be contiguous"):
        _binary.ops.gmm_forward_backward_(torch.ones(5, device=device), *inputs.values(), 0, 0.0, 0, True)


def test_another_number_of_upstream_gradients_is_refused(device):
    inputs = per_sample(5, 3, 4, device=device).values()
    with pytest.raises(RuntimeError, match="has changed"):
        _binary.ops.gmm_forward_backward_(torch.ones(4, device=device), *inputs, 0, 0.0, 0, True)


@pytest.mark.parametrize("needs_x", [True, False])
def test_it_passes_pytorchs_checks(compiled_device, needs_x):
    inputs = per_sample(5, 3, 4, device=compiled_device).values()
    grad = torch.ones(5, device=compiled_device)
    operator = torch.ops.vtadl_ext.gmm_forward_backward_
    torch.library.opcheck(operator, (grad, *inputs, 0, 0.1, 0, needs_x))
