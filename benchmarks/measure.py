"""What all benchmarks share: agreement with the reference, timing, the environment."""

import platform
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cpuinfo
import torch
from torch import Tensor
from torch.utils.benchmark import Timer

import vtadl_ext

Function = Callable[..., Tensor]


class Case(NamedTuple):
    """Arguments of an operator, in float32, and the reference for its value and gradients."""

    name: str
    tensors: tuple[Tensor, ...]
    reference: Function


class Result(NamedTuple):
    """Quantiles are seconds. A provider that disagrees with the reference is not timed."""

    case: str
    provider: str
    mode: str
    error: float
    quantiles: dict[str, float] | None


def forward(function: Function, tensors: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        function(*tensors)


def forward_backward(function: Function, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(function(*tensors), tensors)


def measure(case: Case, providers: dict[str, Function], tolerance: float = 1e-3) -> Iterator[Result]:
    """Times the forward pass, and the forward and backward pass, of each provider."""
    wanted = _value_and_grads(case.reference, [tensor.double() for tensor in case.tensors])
    leaves = tuple(tensor.clone().requires_grad_() for tensor in case.tensors)
    for provider, function in providers.items():
        torch.compiler.reset()
        error = _error(_value_and_grads(function, case.tensors), wanted)
        for run in (forward, forward_backward):
            quantiles = _time(run, function, leaves) if error < tolerance else None
            yield Result(case.name, provider, run.__name__, error, quantiles)


def _value_and_grads(function: Function, tensors: tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = function(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def _error(got: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest relative L2 error among value and gradients; NaN counts as infinite."""
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(got, wanted, strict=True)]
    return max(error if error == error else float("inf") for error in errors)


def _time(run: Callable[..., object], function: Function, tensors: tuple[Tensor, ...]) -> dict[str, float]:
    timer = Timer(
        "run(function, tensors)",
        globals={"run": run, "function": function, "tensors": tensors},
        num_threads=torch.get_num_threads(),
    )
    times = torch.tensor(timer.blocked_autorange(min_run_time=1.0).times, dtype=torch.float64)
    return {name: float(times.quantile(q)) for name, q in (("20%", 0.2), ("50%", 0.5), ("80%", 0.8))}


def environment(device: torch.device) -> dict[str, object]:
    """What the figures depend on."""
    processor = cpuinfo.get_cpu_info()["brand_raw"]
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vtadl_ext": dict(vtadl_ext.build_info()),
    }
