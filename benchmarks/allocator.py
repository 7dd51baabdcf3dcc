"""The two regimes of memory on the CPU."""

import ctypes
import resource
from pathlib import Path

import torch

# Of glibc's malloc.h.
_M_MXFAST, _M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = 1, -1, -4, -8

# What results are written to. FRESH: the allocator as it comes, which returns large blocks to the kernel, so
# that each result costs page faults. WARM: freed memory is kept, as PyTorch's own allocator does on GPUs.
FRESH, WARM = "fresh", "warm"

# For the environment, which glibc reads when a process starts. An aligned block that is freed has no room for
# another, unless it unites with the remainders beside it, which caches of small blocks would keep apart.
NO_CACHE_OF_SMALL_BLOCKS = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}


def keep_freed_memory(reserve: int) -> bool:
    """For the rest of this process; says whether its allocator can.

    `reserve` bytes are used once ahead of time, so that gaps between blocks are no new pages either.
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
    """To the kernel, where the allocator can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def limit_memory() -> None:
    """To most of what is available: a provider that wants more gets an error, and the machine stays alive."""
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
