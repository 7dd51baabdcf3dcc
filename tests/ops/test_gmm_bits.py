"""The kernels of both devices on numbers of any bits: infinities, NaN, subnormals, and near overflow."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtadl_ext import _binary

from .mixtures import NAMES, SCALE_PARAMS, random_mixture
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


REPLACEMENTS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 2**16), NUMBERS), max_size=6)


def operands(regime, size, scale_param, seed, replacements):
    """x, logits, mu and scale, with some of their elements replaced."""
    inputs = random_mixture(*REGIMES[regime](*size), scale_param=scale_param, seed=seed)
    for name, element, number in replacements:
        inputs[name].view(-1)[element % inputs[name].numel()] = number
    return list(inputs.values())


def value_and_grads(ops, tensors, options):
    """log_prob, log N_k and the four gradients of Σ log_prob."""
    log_prob, components = ops.gmm_forward(*tensors, *options)
    grads = ops.gmm_backward(torch.ones_like(log_prob), log_prob, components, *tensors, *options, *[True] * 4)
    return [log_prob, components, *grads]


def differences(found, wanted, rounding, is_sum):
    """The elements that differ by more than `rounding`, or are not of one kind: number, infinity or NaN.

    A number near the largest may be infinite on one device. A sum of which several parts overflow may be
    infinite or NaN, as the order has it.
    """
    kinds = [torch.stack([part.isnan(), part == math.inf, part == -math.inf]) for part in (found, wanted)]
    numbers = found.isfinite() & wanted.isfinite()
    scale = wanted[numbers].abs().amax() if numbers.any() else 0.0
    close = (found - wanted).abs() <= rounding * (wanted.abs() + 1) + 1e-6 * scale
    alike = (kinds[0] == kinds[1]).all(0) & (close | ~numbers)
    if is_sum:
        alike |= ~found.isfinite() & ~wanted.isfinite()
    largest = torch.finfo(found.dtype).max
    alike |= (found.abs() > largest / 1e3) & (wanted.abs() > largest / 1e3) & (found.sign() == wanted.sign())
    return [
        (index, found[tuple(index)].item(), wanted[tuple(index)].item())
        for index in (~alike).nonzero().tolist()
    ]


@settings(modest, max_examples=300)
@given(
    regime=st.sampled_from(sorted(REGIMES)),
    size=st.sampled_from(SIZES),
    scale_param=st.sampled_from(SCALE_PARAMS),
    min_std=st.sampled_from([0.0, 1e-42, 1e-3]),
    mixture=st.sampled_from(_binary.MIXTURES),
    seed=st.integers(0, 2**16),
    replacements=REPLACEMENTS,
)
def test_both_devices_agree_on_numbers_of_any_bits(
    device, regime, size, scale_param, min_std, mixture, seed, replacements
):
    if _binary.ops is torch.ops.vtadl_ext and device.type == "cpu":
        pytest.skip("the other devices are compared with the CPU")
    tensors = operands(regime, size, scale_param, seed, replacements)
    options = (
        _binary.SCALE_PARAM_NAMES.index(scale_param),
        min_std,
        _binary.MIXTURE_NAMES.index(mixture),
    )
    wanted = value_and_grads(torch.ops.vtadl_ext, tensors, options)
    found = value_and_grads(_binary.ops, [tensor.to(device) for tensor in tensors], options)
    # Responsibilities round as the exponents do that they are computed from.
    exponents = wanted[1][wanted[1].isfinite()].abs()
    rounding = 1e-4 + 4e-7 * (exponents.amax().item() if len(exponents) else 0.0)
    names = ("log_prob", "component_log_prob", "grad_x", "grad_logits", "grad_mu", "grad_scale")
    for name, one, other in zip(names, found, wanted, strict=True):
        is_grad = name.startswith("grad")
        assert not differences(one.cpu(), other, rounding if is_grad else 1e-4, is_sum=is_grad), name
