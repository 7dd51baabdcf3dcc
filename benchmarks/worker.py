"""The functions that run in a separate process for the CPU, and in the main process for a GPU."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch._inductor.compile_fx  # once, in the process that the others are forked from

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
    """A case, named by its index, because the functions of a case cannot be sent to a process."""

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
    # The cases of the sweep over threads depend on the number of threads.
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
    """The regimes, in order: a process that keeps freed memory cannot return to the default."""
    if job.device.type == "cuda":
        yield WARM
        return
    yield FRESH
    # Twice the peak of a call leaves room for gaps.
    if job.level != "quick" and keep_freed_memory(2 * highest_excess() + _LEAST_RESERVE):
        yield WARM
