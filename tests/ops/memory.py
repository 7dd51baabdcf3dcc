"""How much memory a call needs at its peak."""

import ctypes
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

MIB, GIB = 2**20, 2**30
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_MIN_SEPARATE_BYTES = 2**16


def free_memory(device):
    """Bytes that a test may take, within the limits of a container too."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    status = Path("/proc/meminfo")
    if not status.exists():
        return 0
    available = [
        int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "MemAvailable" in line
    ]
    groups = {"memory.max": "memory.current", "memory/memory.limit_in_bytes": "memory/memory.usage_in_bytes"}
    for limit, usage in groups.items():
        limit, usage = (Path("/sys/fs/cgroup") / name for name in (limit, usage))
        if limit.exists() and usage.exists() and limit.read_text().strip() != "max":
            available.append(int(limit.read_text()) - int(usage.read_text()))
    return min(available)


def peak_growth(function, device):
    """How many bytes more than before `function` needs at its peak."""
    function()  # threads and libraries are there afterwards
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    return min(_resident_growth(function) for _ in range(3))  # other threads may add to it


def _resident_growth(function):
    with _blocks_apart():
        return_freed_memory()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        except OSError:
            pytest.skip("this system does not tell the peak of the memory in use")
        before = _resident("VmRSS")
        function()
        return _resident("VmHWM") - before


def _resident(what):
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(what))


@contextmanager
def _blocks_apart():
    """Each large one goes back to the system when it is freed, and none lies in a gap among others."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    libc.mallopt(_M_MMAP_THRESHOLD, _MIN_SEPARATE_BYTES)
    in_gaps = []
    try:
        _fill_gaps(libc, in_gaps)
        yield
    finally:  # to where glibc's own adjustment ends: later tests would take much longer
        for block in in_gaps:
            libc.free(block)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**26)


def _fill_gaps(libc, blocks):
    size = 64 * MIB
    while size >= _MIN_SEPARATE_BYTES and len(blocks) < 1000:  # other allocators know nothing of this
        block = libc.malloc(size)
        is_apart = ctypes.c_size_t.from_address(block - 8).value & 2  # what glibc notes before each block
        if is_apart:
            libc.free(block)
            size //= 2
        else:
            blocks.append(block)


def return_freed_memory():
    """To the system: what the allocator keeps of earlier work would hide what is needed now."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
