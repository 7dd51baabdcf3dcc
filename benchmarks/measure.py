"""What all benchmarks share: agreement with the reference, timing, the environment."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cpuinfo
import torch
from torch import Tensor
from torch.utils.benchmark import Timer

import vtadl_ext

Function = Callable[..., Tensor]

# Rounds of all providers: so many, but after so many seconds no more than the fewest.
ROUNDS, FEWEST_ROUNDS, SECONDS = 21, 5, 5

# With these glibc keeps freed memory: fresh results then cost no page faults, as in a training loop whose
# allocator has warmed up.
WARM_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 32),
}


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


def forward_backward_first(function: Function, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """With the gradient of the first tensor alone."""
    first, *others = tensors
    return torch.autograd.grad(function(first, *[other.detach() for other in others]), first)


class Case(NamedTuple):
    """Arguments of an operator, the reference for its value and gradients, who computes them, and how."""

    name: str
    tensors: tuple[Tensor, ...]
    reference: Function
    providers: dict[str, Function]
    modes: tuple[Callable[..., object], ...] = (forward, forward_backward)


def measure(case: Case) -> Iterator[Result]:
    """Times the modes of each provider that agrees."""
    torch.compiler.reset()
    wanted = _value_and_grads(case.reference, [tensor.double() for tensor in case.tensors])
    leaves = tuple(tensor.clone().requires_grad_() for tensor in case.tensors)
    errors = {
        name: _error(_value_and_grads(function, case.tensors), wanted)
        for name, function in case.providers.items()
    }
    tolerance = 2e-2 if case.tensors[0].dtype in (torch.bfloat16, torch.float16) else 1e-3
    timed = {name: case.providers[name] for name, error in errors.items() if error < tolerance}
    for run in case.modes:
        times = _time(run, timed, leaves)
        for name, error in errors.items():
            yield Result(case.name, name, run.__name__, error, times.get(name))


def _value_and_grads(function: Function, tensors: tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = function(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def _error(got: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest relative L2 error among value and gradients; NaN counts as infinite."""
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(got, wanted, strict=True)]
    return max(error if error == error else float("inf") for error in errors)


def _time(
    run: Callable[..., object], providers: dict[str, Function], tensors: tuple[Tensor, ...]
) -> dict[str, dict[str, float]]:
    """Quantiles of the providers, which take turns: what slows the machine down meets all of them."""
    timers = {
        name: Timer(
            "run(function, tensors)",
            globals={"run": run, "function": function, "tensors": tensors},
            num_threads=torch.get_num_threads(),
        )
        for name, function in providers.items()
    }
    # As many calls as take a few milliseconds; the first ones of all are not counted.
    calls = {}
    for name, timer in timers.items():
        timer.timeit(1)
        calls[name] = max(1, int(5e-3 / timer.timeit(1).mean))
    times: dict[str, list[float]] = {name: [] for name in timers}
    start = time.monotonic()
    while len(times["vtadl_ext"]) < FEWEST_ROUNDS or (
        len(times["vtadl_ext"]) < ROUNDS and time.monotonic() < start + SECONDS
    ):
        for name, timer in timers.items():
            times[name].append(timer.timeit(calls[name]).mean)
    return {name: _quantiles(torch.tensor(values, dtype=torch.float64)) for name, values in times.items()}


def _quantiles(times: Tensor) -> dict[str, float]:
    return {name: float(times.quantile(q)) for name, q in (("20%", 0.2), ("50%", 0.5), ("80%", 0.8))}


def read_bandwidth(device: torch.device) -> float:
    """Bytes per second that a sum over a large tensor reads: what a kernel that reads once can reach."""
    numbers = torch.ones(1 << 26, device=device)
    timer = Timer("numbers.sum()", globals={"numbers": numbers}, num_threads=torch.get_num_threads())
    timer.timeit(2)
    return numbers.nbytes / min(timer.timeit(1).mean for _ in range(ROUNDS))


def environment(device: torch.device) -> dict[str, object]:
    """What the figures depend on."""
    processor = cpuinfo.get_cpu_info()["brand_raw"]
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "read_bandwidth": read_bandwidth(device),
        "warm_memory": WARM_MEMORY.items() <= os.environ.items(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vtadl_ext": dict(vtadl_ext.build_info()),
    }
