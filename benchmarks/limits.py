"""What this machine can do at most, as measured."""

from collections.abc import Callable

import torch

from benchmarks.timing import Schedule, time_in_turns


def measure_limits(device: torch.device, schedule: Schedule) -> dict[str, float]:
    """Bytes per second read, written and copied (both ways count), and float32 operations per second."""
    gpu = device.type == "cuda"
    numbers, copy = (torch.ones(1 << (29 if gpu else 26), device=device) for _ in range(2))
    matrix = torch.rand((8192,) * 2 if gpu else (2048,) * 2, device=device)
    product = torch.empty_like(matrix)
    bytes_or_flops: dict[str, tuple[Callable[[], object], float]] = {
        "read": (numbers.sum, numbers.nbytes),
        "write": (lambda: copy.fill_(2.0), copy.nbytes),
        "copy": (lambda: copy.copy_(numbers), 2 * copy.nbytes),
        "flops": (lambda: torch.mm(matrix, matrix, out=product), 2 * len(matrix) ** 3),
    }
    calls = {name: call for name, (call, _) in bytes_or_flops.items()}
    times = time_in_turns(calls, device, schedule)
    rates = {}
    for name, (_, work) in bytes_or_flops.items():
        outcome = times[name]
        if isinstance(outcome, Exception):
            raise outcome
        rates[name] = work / outcome.quantiles["20%"]
    return rates


def least_seconds(read: float, written: float, flops: float, limits: dict[str, float]) -> float:
    """What the work would take at the limits, with memory and arithmetic at the same time."""
    return max(read / limits["read"] + written / limits["write"], flops / limits["flops"])
