"""The binary: what it says of itself, its choice of instructions, and life without it."""

import inspect
import os
import re
import subprocess
import sys
import warnings

import pytest
import torch

import vtadl_ext
from vtadl_ext import _binary, gmm_nll, reconstruction_loss, reference, ssim

from .comparison import DTYPES, assert_close, value_and_grads
from .images import random_images, random_mask
from .mixtures import SCALE_PARAMS, per_sample, shared

CAPABILITIES = ["baseline", "avx2", "avx512"]


def run_python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_build_describes_itself():
    info = vtadl_ext.build_info()
    assert set(info) == {"version", "torch", "compiler", "cuda", "cuda_architectures", "cpu_capability"}
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", info["version"])
    assert re.match(r"\d+\.\d+", info["torch"])
    assert info["compiler"]
    assert info["cuda"] is None or re.match(r"\d+\.\d+", info["cuda"])
    assert bool(info["cuda_architectures"]) == (info["cuda"] is not None)
    assert info["cpu_capability"] in CAPABILITIES


def test_the_public_names_are_there():
    of_mixtures = ["GMMNLLLoss", "gmm_log_prob", "gmm_nll", "gmm_responsibilities", "gmm_sample"]
    of_mixtures += ["MixtureHead", "linear_gmm_nll"]
    of_images = ["ReconstructionTerms", "SSIMLoss", "ms_ssim", "reconstruction_loss", "ssim"]
    assert sorted(vtadl_ext.__all__) == sorted(
        [*of_mixtures, *of_images, "build_info", "reference", "use_reference"]
    )
    assert all(hasattr(vtadl_ext, name) for name in vtadl_ext.__all__)


@pytest.mark.parametrize("name", ["gmm_nll", "linear_gmm_nll", "reconstruction_loss", "ssim", "MixtureHead"])
def test_help_explains_every_argument(name):
    function = getattr(vtadl_ext, name)
    explained = re.findall(r"^    (\w.*?): ", inspect.cleandoc(function.__doc__), flags=re.MULTILINE)
    explained = {word for words in explained for word in re.findall(r"\w+", words)}
    assert set(inspect.signature(function).parameters) <= explained


def test_without_its_binary_the_package_says_how_to_build_it():
    result = run_python("import sys; sys.modules['vtadl_ext._C'] = None; import vtadl_ext")
    assert result.returncode == 1
    assert "ImportError: vtadl_ext has no compiled binary" in result.stderr
    assert "pip install --no-build-isolation -e ." in result.stderr


def cases():
    """Functions and arguments that go through all kernels."""
    for dtype in DTYPES:
        for scale_param in SCALE_PARAMS:
            for mixture in (per_sample, shared):
                tensors = mixture(20, 5, 37, scale_param=scale_param, dtype=dtype).values()
                yield gmm_nll, reference.gmm_nll, list(tensors), {"scale_param": scale_param}
        images = list(random_images(2, 3, 20, 75, dtype=dtype).values())
        channels_last = [image.contiguous(memory_format=torch.channels_last) for image in images]
        for options in (
            {"window_size": 7},
            {"window_size": 11, "padding": "same"},
            {"window_size": 31, "padding": "same"},
            {"window_size": 11, "mask": random_mask(2, 1, 20, 75)},
        ):
            yield ssim, reference.ssim, images, options | {"reduction": "map"}
            yield ssim, reference.ssim, channels_last, options | {"reduction": "map"}
        weights = {"mse": 1e3, "l1": 1e3, "ssim": 1e3}  # so that gradients are no subnormal halves
        yield reconstruction_loss, reference.reconstruction_loss, images, weights


SAVE_RESULTS = """
import sys, torch
from vtadl_ext import build_info, gmm_nll, reconstruction_loss, ssim
functions, results = {"gmm_nll": gmm_nll, "reconstruction_loss": reconstruction_loss, "ssim": ssim}, []
for name, tensors, options in torch.load(sys.argv[1]):
    value = functions[name](*[tensor.requires_grad_() for tensor in tensors], **options)
    upstream = torch.arange(1, value.numel() + 1, dtype=torch.float64).cos().view(value.shape).to(value)
    results.append((value.detach(), *torch.autograd.grad(value, tensors, upstream)))
torch.save(results, sys.argv[2])
print(build_info()["cpu_capability"])
"""


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_instruction_set_gives_the_results_of_the_reference(capability, tmp_path):
    arguments, results = tmp_path / "arguments.pt", tmp_path / "results.pt"
    torch.save(
        [(function.__name__, tensors, options) for function, _, tensors, options in cases()], arguments
    )
    process = run_python(SAVE_RESULTS, arguments, results, VTADL_CPU_CAPABILITY=capability)
    assert process.returncode == 0, process.stderr
    in_use = process.stdout.strip()
    if in_use != capability:
        assert CAPABILITIES.index(in_use) < CAPABILITIES.index(capability), (
            f"{in_use} is more than was asked for"
        )
        pytest.skip(f"this machine or this build has {in_use} at best")
    for (function, oracle, tensors, options), (value, *grads) in zip(
        cases(), torch.load(results), strict=True
    ):
        expected, expected_grads = value_and_grads(
            lambda *tensors, f=oracle, o=options: f(*tensors, **o), [tensor.double() for tensor in tensors]
        )
        half = tensors[0].dtype in (torch.bfloat16, torch.float16)
        assert_close(f"{function.__name__} {options}", value, expected, 5e-6)
        for i, (result, expected_grad) in enumerate(zip(grads, expected_grads, strict=True)):
            tolerance = 4.5e-3 if half else 1e-5
            assert_close(f"{function.__name__} {options}, gradient {i}", result, expected_grad, tolerance)


@pytest.mark.parametrize("value", ["sse2", "AVX2", ""], ids=repr)
def test_an_unknown_instruction_set_is_an_error_that_names_the_known_ones(value):
    result = run_python("import vtadl_ext", VTADL_CPU_CAPABILITY=value)
    assert result.returncode == 1
    assert f'VTADL_CPU_CAPABILITY is "{value}"; it must be baseline, avx2 or avx512' in result.stderr


@pytest.fixture
def without_kernels(monkeypatch):
    """As on a device that the binary does not serve."""
    monkeypatch.setattr(_binary, "_KERNEL_DEVICES", frozenset())
    monkeypatch.setattr(_binary, "_warned_devices", set())
    monkeypatch.setattr(_binary, "ops", None)


@pytest.mark.filterwarnings("ignore:this build of vtadl_ext")
def test_devices_without_kernels_run_the_reference(without_kernels):
    inputs, options = (
        shared(5, 3, 4).values(),
        {"scale_param": "softplus", "min_std": 0.5, "reduction": "sum"},
    )
    assert torch.equal(gmm_nll(*inputs, **options), reference.gmm_nll(*inputs, **options))
    images = random_images(2, 12, 13).values()
    options = {
        "data_range": 2.0,
        "window": "uniform",
        "window_size": 7,
        "padding": "same",
        "reduction": "map",
    }
    assert torch.equal(ssim(*images, **options), reference.ssim(*images, **options))


def test_devices_without_kernels_are_warned_of_once(without_kernels):
    with pytest.warns(
        UserWarning, match=r"no kernels for cpu tensors.*vtadl_ext\.reference, which is slower"
    ):
        gmm_nll(*shared(5, 3, 4).values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ssim(*random_images(2, 12, 13).values())


def test_cuda_tensors_without_cuda_kernels_are_told_how_to_get_them(without_kernels):
    with pytest.warns(UserWarning, match=r"without CUDA: reinstall with nvcc 12\.0 .* and VTADL_CUDA=ON"):
        assert not _binary.has_kernels(torch.device("cuda"))
