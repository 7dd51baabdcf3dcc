"""The two regimes of memory on the CPU."""

import ctypes
import resource
from pathlib import Path

import torch

# These parameters are those of glibc's malloc.h.
_M_MXFAST, _M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = 1, -1, -4, -8

# The memory that results are written to. FRESH: the allocator has its defaults and returns large blocks to
# the kernel, so that each result costs page faults. WARM: the allocator keeps freed memory, as PyTorch's own
# does on GPUs.
FRESH, WARM = "fresh", "warm"

# glibc reads this variable when a process starts. A freed aligned block is too small for another one unless
# it unites with the remainders beside it, and caches of small blocks would keep these apart.
NO_CACHE_OF_SMALL_BLOCKS = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}


def keep_freed_memory(reserve: int) -> bool:
    """Makes the allocator keep freed memory for the rest of this process; returns whether it can.

    `reserve` bytes are used once ahead of time, so that gaps between blocks cause no page faults either.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {_M_MXFAST: 0, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_ARENA_MAX: 1}
    kept = all(mallopt(parameter, value) == 1 for parameter, value in settings.items())
    torch.ones(reserve, dtype=torch.uint8)
    return kept


def return_freed_memory() -> None:
    """Returns freed memory to the kernel if the allocator can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def limit_memory() -> None:
    """Limits this process to most of the available memory.

    A provider that asks for more gets an error, and the machine stays alive.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = int(0.85 * available)
    resource.setrlimit(
        resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
    )
