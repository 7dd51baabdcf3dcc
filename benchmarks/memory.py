"""Peak memory of a call, beyond what was there before it."""

import gc
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.allocator import return_freed_memory

_highest = 0  # excess that the kernel was made to forget


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Of the allocator on a GPU; on the CPU of this process, while it returns what is freed to the kernel.

    None where the system has no high-water mark that can be reset: elsewhere than on Linux.
    """
    global _highest
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    _highest = highest_excess()
    return_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def highest_excess() -> int:
    """Bytes by which this process was at most larger than it is now; 0 where the system does not say."""
    try:
        return max(_highest, _status("VmHWM") - _status("VmRSS"))
    except OSError:
        return 0


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
