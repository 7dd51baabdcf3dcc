"""What runs in a process of its own on the CPU, and in the one there is on a GPU."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.allocator import FRESH, WARM, keep_freed_memory, limit_memory
from benchmarks.case import Case, Level
from benchmarks.compilation import trace_only
from benchmarks.limits import measure_limits
from benchmarks.measurement import measure_case
from benchmarks.memory import highest_excess, peak_bytes
from benchmarks.operators import cases_of
from benchmarks.results import Result
from benchmarks.timing import SCHEDULES, SWEEP_SCHEDULE

_LEAST_RESERVE = 1 << 28


@dataclass(frozen=True)
class Job:
    """A case by its place among those of an operator, because functions do not travel between processes."""

    operator: str
    level: Level
    index: int
    device: torch.device
    threads: int

    def case(self) -> Case:
        return cases_of(self.operator, self.level)[self.index]


def limits(device: torch.device, threads: int, level: Level) -> dict[str, float]:
    torch.set_num_threads(threads)
    return measure_limits(device, SCHEDULES[level])


def measure(job: Job) -> list[Result]:
    case = _prepared_case(job)
    schedule = SWEEP_SCHEDULE if case.sweep else SCHEDULES[job.level]
    return measure_case(job.operator, case, job.device, schedule, _regimes(job.device))


def peaks(job: Job, provider_name: str, slow: bool) -> dict[str, int | None]:
    """Peak bytes of a provider by mode, in a process that has done nothing else."""
    case = _prepared_case(job)
    tensors = case.tensors(job.device)
    provider = next(provider for provider in case.providers if provider.name == provider_name)
    function = provider.callable()
    found = {}
    for mode in case.modes:
        if provider.has(mode):
            call = partial(mode, function, mode.leaves(tensors))
            if provider.compile or not slow:
                call()  # compiles, starts threads, loads libraries
            found[mode.name] = peak_bytes(call, job.device)
    return found


def _prepared_case(job: Job) -> Case:
    # The cases of the sweep over threads depend on how many there are.
    torch.set_num_threads(job.threads)
    case = job.case()
    torch.set_num_threads(case.threads or job.threads)
    if job.level == "smoke":
        trace_only()
    if job.device.type == "cpu":
        limit_memory()
    else:
        torch.compiler.reset()
        torch.cuda.empty_cache()
    return case


def _regimes(device: torch.device) -> Iterator[str]:
    """One after the other: once freed memory is kept there is no way back."""
    if device.type == "cuda":
        yield WARM
        return
    yield FRESH
    # Twice what a call needed at most, for there will be gaps.
    if keep_freed_memory(2 * highest_excess() + _LEAST_RESERVE):
        yield WARM
