"""Devices without kernels: the functions are the reference there, after one warning."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vtadl_ext
from vtadl_ext import _binary, reference

from .heads import random_head
from .images import random_images, random_mask
from .mixtures import per_sample
from .other_device import Device

HEAD, HEAD_OPTIONS = random_head(6, 3, 4)
MASKED = random_images(2, 1, 20, 21) | {"mask": random_mask(2, 1, 20, 21)}

# Function, tensors and options.
CALLS = [
    ("gmm_nll", per_sample(6, 3, 4), {"scale_param": "softplus", "min_std": 0.5}),
    ("gmm_log_prob", per_sample(6, 3, 4), {}),
    ("gmm_responsibilities", per_sample(6, 3, 4), {}),
    ("linear_gmm_nll", HEAD, HEAD_OPTIONS),
    ("ssim", random_images(2, 3, 20, 21), {"window_size": 7, "padding": "same", "reduction": "map"}),
    ("ssim", MASKED, {}),
    ("ms_ssim", random_images(1, 1, 180, 170), {}),
    ("reconstruction_loss", random_images(2, 3, 20, 21), {"mse": 1.0, "l1": 0.5, "ssim": 0.2}),
]

RUN_CALLS = """
import os, sys, torch, vtadl_ext
sys.path.insert(0, sys.argv[1])
from other_device import Device, register_backend
register_backend("npu")
with Device("npu") as device:
    results = []
    for name, tensors, options in torch.load(sys.argv[2]):
        tensors = {key: device.put(tensor) for key, tensor in tensors.items()}
        leaves = [x.requires_grad_() for x in tensors.values() if x.is_floating_point()]
        value = getattr(vtadl_ext, name)(**tensors, **options)
        grads = torch.autograd.grad(value.sum(), leaves)
        assert all(x.device == device.device for x in (value, *grads))
        results.append([x.detach().values for x in (value, *grads)])
    logits, mu = torch.zeros(3, device="npu"), torch.zeros(3, 4, device="npu")
    samples = vtadl_ext.gmm_sample(logits, mu, mu, sample_shape=(5,))
    assert samples.device == device.device and samples.shape == (5, 4)
torch.save(results, sys.argv[3])
sys.stderr.flush()
os._exit(0)  # autograd's thread for the backend ends the process with an error if Python ends first
"""


def test_every_function_is_the_reference_there_after_one_warning(tmp_path):
    arguments, results = tmp_path / "arguments.pt", tmp_path / "results.pt"
    torch.save(CALLS, arguments)
    command = [sys.executable, "-c", RUN_CALLS, Path(__file__).parent, arguments, results]
    process = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("this build of vtadl_ext has no kernels for npu tensors") == 1
    for (name, tensors, options), actual in zip(CALLS, torch.load(results), strict=True):
        tensors = {key: tensor.clone() for key, tensor in tensors.items()}
        leaves = [tensor.requires_grad_() for tensor in tensors.values() if tensor.is_floating_point()]
        value = getattr(reference, name)(**tensors, **options)
        expected = [value, *torch.autograd.grad(value.sum(), leaves)]
        assert all(map(torch.equal, actual, expected)), name


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_the_warning_is_of_the_line_that_calls(kind, monkeypatch):
    monkeypatch.setattr(_binary, "_warned_devices", set())
    with Device(kind) as device:
        mixture = [device.put(tensor) for tensor in per_sample(6, 3, 4).values()]
        with pytest.warns(UserWarning, match=f"no kernels for {kind} tensors") as caught:
            vtadl_ext.gmm_nll(*mixture)
        assert [warning.filename for warning in caught] == [__file__]


def test_tensors_of_two_devices_are_refused():
    x, logits, mu, scale = per_sample(6, 3, 4).values()
    message = r"logits must be on the device of x, mps:0, got cpu"
    with Device("mps") as device, pytest.raises(ValueError, match=message):
        vtadl_ext.gmm_nll(device.put(x), logits, mu, scale)
