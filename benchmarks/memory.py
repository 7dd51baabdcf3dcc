"""What one call costs: its seconds, and its peak memory beyond what was there before it."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.allocator import return_freed_memory
from benchmarks.timing import seconds_of

_highest = 0  # excess that the kernel was made to forget


class Cost(NamedTuple):
    """Of one call. Its memory is None where no high-water mark can be reset: elsewhere than on Linux."""

    seconds: float
    peak_bytes: int | None


def cost_of(call: Callable[[], object], device: torch.device) -> Cost:
    """Memory of the allocator on a GPU; on the CPU of this process, which first returns what is freed."""
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
    """Bytes by which this process was at most larger than it is now; 0 where the system does not say."""
    try:
        return max(_highest, _status("VmHWM") - _status("VmRSS"))
    except OSError:
        return 0


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
