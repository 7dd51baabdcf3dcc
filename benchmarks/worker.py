"""What runs in a process of its own on the CPU, and in the one there is on a GPU."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch._inductor.compile_fx  # by the process that others are forked from, so that none of them needs to

from benchmarks.allocator import FRESH, WARM, keep_freed_memory, limit_memory
from benchmarks.case import Case, Level
from benchmarks.compilation import trace_only
from benchmarks.limits import measure_limits
from benchmarks.measurement import measure_case
from benchmarks.memory import highest_excess
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
    return measure_case(job.operator, case, job.device, schedule, _regimes(job))


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


def _regimes(job: Job) -> Iterator[str]:
    """One after the other: once freed memory is kept there is no way back."""
    if job.device.type == "cuda":
        yield WARM
        return
    yield FRESH
    # Twice what a call needed at most, for there will be gaps.
    if job.level != "quick" and keep_freed_memory(2 * highest_excess() + _LEAST_RESERVE):
        yield WARM
