"""The memory of `linear_gmm_nll`. The emulated kernels are too slow for these tests."""

import pytest
import torch

from vtadl_ext import MixtureHead, _linear_gmm_ops, gmm_nll, linear_gmm_nll

from .heads import SCALES, random_head
from .memory import MIB, peak_growth

SAMPLES, COMPONENTS, FEATURES, WIDTH = 4096, 30, 64, 32


def leaves_of(device, scale="diagonal", dtype=torch.float32):
    tensors, options = random_head(
        SAMPLES, COMPONENTS, FEATURES, WIDTH, scale=scale, dtype=dtype, device=device
    )
    return [tensor.requires_grad_() for tensor in tensors.values()], options


def step(function, leaves):
    for leaf in leaves:
        leaf.grad = None
    function(*leaves).sum().backward()


def bytes_of(tensors):
    return sum(tensor.nbytes for tensor in tensors)


def workspace(device):
    """Bytes that the library for products of matrices may take for itself."""
    return 32 * MIB if device.type == "cuda" else 0


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("scale", SCALES)
def test_the_mixtures_are_never_whole_in_memory(real_device, scale, reduction, monkeypatch):
    # The smaller minimum makes this head count as a large one.
    monkeypatch.setattr(_linear_gmm_ops, "_MIN_BYTES", {"cpu": MIB, "cuda": MIB})
    leaves, options = leaves_of(real_device, scale)

    def function(*leaves):
        return linear_gmm_nll(*leaves, **options, reduction=reduction)

    mixtures = 4 * SAMPLES * COMPONENTS * FEATURES  # mu alone, 30 MiB
    peak = peak_growth(lambda: step(function, leaves), real_device)
    assert peak - bytes_of(leaves) < mixtures / 4 + 2 * MIB


def test_a_budget_is_kept(real_device):
    leaves, options = leaves_of(real_device)
    peaks = []
    for budget in (2 * MIB, 24 * MIB):

        def function(*leaves, budget=budget):
            return linear_gmm_nll(*leaves, **options, memory_budget=budget)

        peaks.append(peak_growth(lambda f=function: step(f, leaves), real_device) - bytes_of(leaves))
    assert peaks[0] < (2 + 3) * MIB + workspace(real_device)
    assert 10 * MIB < peaks[1] < (24 + 3) * MIB + workspace(real_device)


def test_the_gradient_of_the_weight_exists_once(real_device):
    head = MixtureHead(512, 32, 128, device=real_device)  # 16 MiB
    x, h = torch.randn(8, 32, device=real_device), torch.randn(8, 512, device=real_device)

    def step():
        head.zero_grad()
        head.nll(x, h).backward()

    assert peak_growth(step, real_device) < 1.5 * head.weight.nbytes


def test_a_module_needs_a_fifth_of_what_it_needs_without_chunks(real_device, monkeypatch):
    monkeypatch.setitem(_linear_gmm_ops._MIN_BYTES, "cuda", 16 * MIB)  # as on the CPU
    head = MixtureHead(WIDTH, FEATURES, COMPONENTS, device=real_device)
    x, h = torch.randn(SAMPLES, FEATURES, device=real_device), torch.randn(SAMPLES, WIDTH, device=real_device)

    def peak(function):
        def step():
            head.zero_grad()
            function().backward()

        return peak_growth(step, real_device) - bytes_of(head.parameters())

    without_chunks = peak(lambda: gmm_nll(x, *head(h)))
    assert peak(lambda: head.nll(x, h)) < 0.2 * without_chunks + workspace(real_device)
