"""The kernels of both devices on numbers of any bits: infinities, NaN, subnormals, and near overflow."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vtadl_ext import _binary

from .comparison import DTYPES
from .mixtures import NAMES, random_mixture
from .regimes import REGIMES, SIZES, modest

SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 1e-39, 1.1754944e-38, 3.4e38, -3.4e38]
EDGES = [
    *SPECIAL,
    *(
        sign * edge
        for edge in (87.336, 88.73, 103.9, 50.0, 174.67, 1e19, 1.9e19, 3.7e19)
        for sign in (-1.0, 1.0)
    ),
]
NUMBERS = st.one_of(st.sampled_from(EDGES), st.floats(width=32), st.floats(-4, 4, width=32))


RESULTS = ("log_prob", "component_log_prob", "grad_x", "grad_logits", "grad_mu", "grad_scale")
REPLACEMENTS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 2**16), NUMBERS), max_size=6)


def operands(regime, size, scale_param, dtype, seed, replacements):
    """x, logits, mu and scale, with some of their elements replaced."""
    shapes = REGIMES[regime](*size)
    if scale_param == "tril":
        components = shapes[2][:-1]
        inputs = random_mixture(
            *shapes[:3], scale_tril=(*components, size[2], size[2]), dtype=dtype, seed=seed
        )
    else:
        inputs = random_mixture(*shapes, scale_param=scale_param, dtype=dtype, seed=seed)
    tensors = dict(zip(NAMES, inputs.values(), strict=True))
    for name, element, number in replacements:
        tensors[name].view(-1)[element % tensors[name].numel()] = number
    return list(tensors.values())


def each_pass(ops, tensors, options):
    """log_prob, log N_k and the four gradients of their sum."""
    log_prob, components = ops.gmm_forward(*tensors, *options)
    mixed = options[2] != _binary.NO_MIXTURE
    grad = torch.ones_like(log_prob if mixed else components)
    needs = (True, mixed, True, True)  # without a mixture nothing depends on the logits
    grads = ops.gmm_backward(grad, log_prob, components, *tensors, *options, *needs)
    return dict(zip(RESULTS, (log_prob, components, *grads), strict=True))


def both_passes(ops, tensors, options):
    """log_prob and the four gradients of its sum, from one call."""
    log_prob, *grads = ops.gmm_forward_backward(1.0, *tensors, *options, *[True] * 4)
    return dict(zip(("log_prob", *RESULTS[2:]), (log_prob, *grads), strict=True))


def differences(found, wanted, rounding, is_sum):
    """The elements that differ by more than `rounding`, or are not of one kind: number, infinity or NaN.

    A number near the largest may be infinite on one device. Where parts of a sum overflow, it is large,
    infinite or NaN, as the order has it.
    """
    kinds = [torch.stack([part.isnan(), part == math.inf, part == -math.inf]) for part in (found, wanted)]
    numbers = found.isfinite() & wanted.isfinite()
    scale = wanted[numbers].abs().amax() if numbers.any() else 0.0
    close = (found - wanted).abs() <= rounding * (wanted.abs() + 1) + 1e-6 * scale
    alike = (kinds[0] == kinds[1]).all(0) & (close | ~numbers)
    largest = torch.finfo(found.dtype).max
    overflows = (found.isnan() | (found.abs() > largest / 1e3)) & (
        wanted.isnan() | (wanted.abs() > largest / 1e3)
    )
    alike |= overflows & (is_sum | (found.sign() == wanted.sign()))
    return [
        (index, found[tuple(index)].item(), wanted[tuple(index)].item())
        for index in (~alike).nonzero().tolist()
    ]


@settings(modest, max_examples=500)
@given(
    regime=st.sampled_from(sorted(REGIMES)),
    size=st.sampled_from(SIZES),
    scale_param=st.sampled_from(_binary.SCALE_PARAM_NAMES),
    dtype=st.sampled_from([torch.float32, torch.float32, *DTYPES]),
    min_std=st.sampled_from([0.0, 1e-42, 1e-3]),
    mixture=st.sampled_from(_binary.MIXTURE_NAMES),
    seed=st.integers(0, 2**16),
    replacements=REPLACEMENTS,
)
def test_both_devices_agree_on_numbers_of_any_bits(
    device, regime, size, scale_param, dtype, min_std, mixture, seed, replacements
):
    if _binary.ops is torch.ops.vtadl_ext and device.type == "cpu":
        pytest.skip("the other devices are compared with the CPU")
    if scale_param == "tril":
        assume(size[2] <= 8 and "mean" not in regime and "spherical" not in regime and "scale" not in regime)
    tensors = operands(regime, size, scale_param, dtype, seed, replacements)
    moved = [tensor.to(device) for tensor in tensors]
    numbers = _binary.SCALE_PARAM_NAMES.index(scale_param), _binary.MIXTURE_NAMES.index(mixture)
    options = (numbers[0], min_std, numbers[1])
    # Responsibilities round as the exponents do that they are computed from.
    exponents = each_pass(torch.ops.vtadl_ext, tensors, options)["component_log_prob"]
    exponents = exponents[exponents.isfinite()].abs()
    rounding = 1e-4 + 4e-7 * (exponents.amax().item() if len(exponents) else 0.0)
    for run in (each_pass, both_passes) if mixture != "none" else (each_pass,):
        wanted = run(torch.ops.vtadl_ext, tensors, options)
        for name, found in run(_binary.ops, moved, options).items():
            is_grad = name.startswith("grad")
            tolerance = 4 * torch.finfo(found.dtype).eps + (rounding if is_grad else 1e-4)
            assert not differences(found.cpu(), wanted[name], tolerance, is_sum=is_grad), (run.__name__, name)
