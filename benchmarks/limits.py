"""The measured limits of this machine: memory bandwidth and arithmetic."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.timing import Schedule, time_in_turns

Work = dict[str, tuple[Callable[[], object], float]]  # calls, with their bytes or operations


def measure_limits(device: torch.device, schedule: Schedule) -> dict[str, float]:
    """Bytes per second read, written and copied (both ways count), and float32 operations per second."""
    gpu = device.type == "cuda"
    matrix = torch.rand((8192,) * 2 if gpu else (2048,) * 2, device=device)
    product = torch.empty_like(matrix)
    numbers, copy = _numbers(device), _numbers(device)
    others: Work = {
        "copy": (lambda: copy.copy_(numbers), 2 * copy.nbytes),
        "flops": (lambda: torch.mm(matrix, matrix, out=product), 2 * len(matrix) ** 3),
    }
    return _rates(_reading_and_writing(numbers) | others, device, schedule)


def measure_bandwidth(device: torch.device, schedule: Schedule) -> dict[str, float]:
    """Bytes per second read and written, which change within minutes on a machine that others share.

    The result is empty if there is too little memory left for the measurement.
    """
    try:
        return _rates(_reading_and_writing(_numbers(device)), device, schedule)
    except RuntimeError:
        return {}


def _numbers(device: torch.device) -> Tensor:
    """A tensor that is larger than any cache."""
    return torch.ones(1 << (29 if device.type == "cuda" else 26), device=device)


def _reading_and_writing(numbers: Tensor) -> Work:
    return {"read": (numbers.sum, numbers.nbytes), "write": (lambda: numbers.fill_(2.0), numbers.nbytes)}


def _rates(work: Work, device: torch.device, schedule: Schedule) -> dict[str, float]:
    times = time_in_turns({name: call for name, (call, _) in work.items()}, device, schedule)
    rates = {}
    for name, (_, amount) in work.items():
        outcome = times[name]
        if isinstance(outcome, Exception):
            raise outcome
        rates[name] = amount / outcome.quantiles["20%"]
    return rates


def least_seconds(read: float, written: float, flops: float, limits: dict[str, float]) -> float:
    """Seconds of the work at the limits, if memory and arithmetic overlap."""
    return max(read / limits["read"] + written / limits["write"], flops / limits["flops"])
