"""Runs cases: on the CPU each in a process of its own, on a GPU all in this one."""

import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from typing import ParamSpec, TypeVar
from unittest import mock

import torch
from rich.progress import track

from benchmarks import worker
from benchmarks.allocator import NO_CACHE_OF_SMALL_BLOCKS
from benchmarks.case import OWN, Level
from benchmarks.environment import environment
from benchmarks.measurement import blank_result, message_of
from benchmarks.operators import cases_of
from benchmarks.results import Report, Result, derive
from benchmarks.worker import Job

P = ParamSpec("P")
T = TypeVar("T")

# Calls slower than this are not made once more to warm up before their memory is measured.
_SLOW_SECONDS = 1.0


def run(operators: Sequence[str], level: Level, device: torch.device, threads: int) -> Report:
    """Everything at this level, and what the results depend on."""
    torch.set_num_threads(threads)
    with _fresh_compiler_cache():
        report = Report(environment(device, threads), in_child(device, worker.limits, device, threads, level))
        for operator in operators:
            cases = cases_of(operator, level)
            jobs = [
                Job(operator, level, index, device, threads)
                for index, case in enumerate(cases)
                if device.type in case.devices
            ]
            for job in track(jobs, description=operator):
                report.results.extend(_run(job))
    return derive(report)


def _run(job: Job) -> list[Result]:
    try:
        results = in_child(job.device, worker.measure, job)
    except (
        Exception
    ) as error:  # the reference's own, or the end of the process: the other cases shall still run
        return [_failure(job, error)]
    if job.device.type == "cuda" or not job.case().grows:
        return results
    return _with_peaks(job, results)


def in_child(device: torch.device, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function of the worker in a new process, but in this one if it uses a GPU.

    Processes are forked from one that has imported everything and has computed nothing.
    """
    if device.type == "cuda":
        return function(*args, **kwargs)
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.worker"])
    with (
        mock.patch.dict(os.environ, NO_CACHE_OF_SMALL_BLOCKS),
        ProcessPoolExecutor(1, mp_context=context) as pool,
    ):
        return pool.submit(function, *args, **kwargs).result()


def _with_peaks(job: Job, results: list[Result]) -> list[Result]:
    slowest: dict[str, float] = defaultdict(float)
    for result in results:
        if result.median is not None:
            slowest[result.provider] = max(slowest[result.provider], result.median)
    if job.level == "smoke":
        slowest = {OWN: 0.0}
    peaks: dict[tuple[str, str], int | None] = {}
    for provider, seconds in slowest.items():
        try:
            found = in_child(job.device, worker.peaks, job, provider, seconds > _SLOW_SECONDS)
        except (BrokenProcessPool, RuntimeError):  # alone as well it wants more memory than there is
            continue
        peaks |= {(provider, mode): peak for mode, peak in found.items()}
    return [replace(result, peak_bytes=peaks.get((result.provider, result.mode))) for result in results]


def _failure(job: Job, error: Exception) -> Result:
    """That the case could not run, as a failure of the operator."""
    case = job.case()
    blank = blank_result(job.operator, case, case.modes[0])
    return replace(blank, provider=OWN, status="failed", detail=message_of(error))


@contextmanager
def _fresh_compiler_cache() -> Iterator[None]:
    """An empty one, so that the first call of a compiled provider says what compilation costs."""
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as folder,
        mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder),
    ):
        yield
