"""The cost of one call: its seconds, and its peak of memory above the memory in use before it."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.allocator import return_freed_memory
from benchmarks.timing import seconds_of

_highest = 0  # the largest excess before the kernel's high-water mark was reset


class Cost(NamedTuple):
    """The cost of one call; the peak is None except on Linux, which can reset the high-water mark."""

    seconds: float
    peak_bytes: int | None


def cost_of(call: Callable[[], object], device: torch.device) -> Cost:
    """Measures a call: on a GPU the allocator's memory, on the CPU the memory of this process.

    On the CPU the process first returns freed memory to the kernel.
    """
    global _highest
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        seconds = seconds_of(call, device)
        return Cost(seconds, torch.cuda.max_memory_allocated(device) - before)
    _highest = highest_excess()
    return_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return Cost(seconds_of(call, device), None)
    before = _status("VmRSS")
    seconds = seconds_of(call, device)
    return Cost(seconds, max(0, _status("VmHWM") - before))


def highest_excess() -> int:
    """The most bytes by which this process has exceeded its present size; 0 where the system does not say."""
    try:
        return max(_highest, _status("VmHWM") - _status("VmRSS"))
    except OSError:
        return 0


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
