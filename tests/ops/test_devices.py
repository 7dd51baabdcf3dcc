"""The devices that the operators' tests run on, of which none is left out unseen."""

import pytest
import torch

from .conftest import DEVICES


def test_the_operators_are_tested_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU: every test of the operators leaves out the device cuda")
    assert "cuda" in DEVICES


def test_the_operators_are_tested_on_the_cpu_and_on_the_emulator():
    assert {"cpu", "emulated"} <= set(DEVICES)
