"""The memory of `gmm_nll`, and indices beyond 32 bits. The emulated kernels are too slow for these tests."""

import pytest
import torch

from vtadl_ext import gmm_nll

from .comparison import assert_close
from .memory import GIB, MIB, free_memory, peak_growth
from .mixtures import random_mixture

# Shapes of x, logits, mu and scale or scale_tril, which all have 2**25 elements or more when broadcast.
SHARED = {
    "one mixture": [(2**14, 64), (32,), (32, 64), (32, 64)],
    "a mixture per row": [(4, 2**12, 64), (4, 1, 32), (4, 1, 32, 64), (4, 1, 32, 64)],
    "one scale for all components": [(2**14, 64), (32,), (32, 64), (1, 64)],
    "one mean and one scale": [(2**14, 64), (2**14, 32), (1, 64), (1, 1)],
    "one covariance": [(2**14, 8), (2**14, 32), (32, 8), (1, 8, 8)],
}


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("shapes", SHARED.values(), ids=[name.replace(" ", "_") for name in SHARED])
def test_what_is_broadcast_is_never_whole_in_memory(real_device, shapes, reduction):
    name = "scale_tril" if shapes[3][-2:] == (8, 8) else "scale"
    inputs = random_mixture(*shapes[:3], **{name: shapes[3]}, device=real_device)
    leaves = {name: tensor.requires_grad_() for name, tensor in inputs.items()}

    def step():
        value = gmm_nll(**leaves, reduction=reduction)
        torch.autograd.grad(value.sum(), leaves.values())

    # The gradient of x and a few numbers for each sample and component; broadcast, mu alone is 128 MiB.
    assert peak_growth(step, real_device) < 40 * MIB


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_offsets_beyond_32_bits_are_right(real_device, reduction):
    samples, components, features = 2056, 2048, 512
    assert (samples - 8) * components * features >= 2**31
    if free_memory(real_device) < 14 * GIB:
        pytest.skip("needs 14 GiB of free memory")
    tail = random_mixture(
        *((8, features), (components,), (8, components, features), (8, components, 1)),
        dtype=torch.bfloat16,
        device=real_device,
    )
    inputs = dict(tail)
    for name in ("x", "mu", "scale"):
        inputs[name] = tail[name].new_zeros(samples, *tail[name].shape[1:])
        inputs[name][-8:] = tail[name]

    def evaluate(inputs):
        leaves = [inputs[name].requires_grad_() for name in ("x", "mu")]
        value = gmm_nll(**inputs, reduction=reduction)
        return value.detach(), *torch.autograd.grad(value.sum(), leaves)

    value, grad_x, grad_mu = evaluate(inputs)
    expected, expected_x, expected_mu = evaluate(tail)
    if reduction == "none":
        assert_close("value", value[-8:], expected, 1e-6)
    assert_close("gradient of x", grad_x[-8:], expected_x, 1e-2)
    assert_close("gradient of mu", grad_mu[-8:], expected_mu, 1e-2)
