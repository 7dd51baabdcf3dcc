"""What this machine can do at most, as measured."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.timing import Schedule, time_in_turns

Work = dict[str, tuple[Callable[[], object], float]]  # calls, and their bytes or operations


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
    """Bytes per second read and written: of a machine that others share, they change within minutes.

    Nothing where there is no memory left for that.
    """
    try:
        return _rates(_reading_and_writing(_numbers(device)), device, schedule)
    except RuntimeError:
        return {}


def _numbers(device: torch.device) -> Tensor:
    """More than a cache holds."""
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
    """What the work would take at the limits, with memory and arithmetic at the same time."""
    return max(read / limits["read"] + written / limits["write"], flops / limits["flops"])
