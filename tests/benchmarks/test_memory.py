"""Peak memory, and the allocator's regimes. Both change the process, so each test runs in a new one."""

import resource
import sys

import pytest
import torch

from benchmarks.allocator import keep_freed_memory, limit_memory
from benchmarks.memory import cost_of
from benchmarks.run import in_child

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process had at most")


def _peak_of_two_buffers(megabytes: int) -> int | None:
    def call() -> None:
        for _ in range(3):  # one after the other: freed memory does not count twice
            torch.ones(megabytes << 18)
        buffers = [torch.ones(megabytes << 18) for _ in range(2)]
        assert len(buffers) == 2

    call()
    return cost_of(call, CPU).peak_bytes


def _page_faults(keep: bool) -> int:
    """The page faults of the third buffer of 64 MB, after the first two were freed."""
    if keep:
        assert keep_freed_memory(1 << 28)
    for _ in range(2):
        torch.ones(1 << 24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _too_much() -> str:
    limit_memory()
    try:
        torch.empty(1 << 44)
    except RuntimeError as error:
        return str(error)
    return ""


def test_the_peak_is_what_a_call_holds_at_once():
    peak = in_child(CPU, _peak_of_two_buffers, 64)
    assert peak == pytest.approx(128 << 20, rel=0.05)


def test_kept_memory_costs_no_page_faults():
    assert in_child(CPU, _page_faults, False) > 20  # even if the pages are huge
    assert in_child(CPU, _page_faults, True) < 20


def test_a_provider_that_wants_too_much_memory_gets_an_error():
    assert "memory" in in_child(CPU, _too_much)
