"""What `gmm_nll` allocates, and indices beyond 32 bits. Not for the emulated kernels, which are too slow."""

from pathlib import Path

import pytest
import torch

from vtadl_ext import _ops, gmm_nll

from .comparison import assert_close
from .mixtures import random_mixture

MIB, GIB = 2**20, 2**30


@pytest.fixture
def real_device(device):
    if _ops._ops is not torch.ops.vtadl_ext:
        pytest.skip("too large for the emulator")
    return device


def free_memory(device):
    """Bytes that a test may take, within the limits of a container too."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    status = Path("/proc/meminfo")
    if not status.exists():
        return 0
    available = [
        int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "MemAvailable" in line
    ]
    groups = {"memory.max": "memory.current", "memory/memory.limit_in_bytes": "memory/memory.usage_in_bytes"}
    for limit, usage in groups.items():
        limit, usage = (Path("/sys/fs/cgroup") / name for name in (limit, usage))
        if limit.exists() and usage.exists() and limit.read_text().strip() != "max":
            available.append(int(limit.read_text()) - int(usage.read_text()))
    return min(available)


def peak_growth(function, device):
    """How many bytes more than before `function` needs at its peak."""
    function()  # threads and libraries are there afterwards
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def resident(what):
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(what))

    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        pytest.skip("this system does not tell the peak of the memory in use")
    before = resident("VmRSS")
    function()
    return resident("VmHWM") - before


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
    spread = "scale_tril" if shapes[3][-2:] == (8, 8) else "scale"
    inputs = random_mixture(*shapes[:3], **{spread: shapes[3]}, device=real_device)
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
