"""Runs cases: on the CPU each in a process of its own, on a GPU all in this one."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from typing import ParamSpec, TypeVar
from unittest import mock

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks import worker
from benchmarks.allocator import NO_CACHE_OF_SMALL_BLOCKS
from benchmarks.case import OWN, Level
from benchmarks.environment import environment
from benchmarks.measurement import blank_result, message_of
from benchmarks.operators import cases_of
from benchmarks.results import Report, Result, derive
from benchmarks.worker import Job

# scikit-learn uses OpenBLAS, whose idle threads would spin and slow down the next provider.
_NO_SPINNING = {"OPENBLAS_THREAD_TIMEOUT": "4"}

P = ParamSpec("P")
T = TypeVar("T")


def run(operators: Sequence[str], level: Level, device: torch.device, threads: int) -> Iterator[Report]:
    """Runs all cases of a level; after each case, yields the report of all results so far."""
    torch.set_num_threads(threads)
    with _fresh_compiler_cache():
        report = Report(environment(device, threads), in_child(device, worker.limits, device, threads, level))
        for job in _with_progress(_jobs(operators, level, device, threads)):
            report.results.extend(_run(job))
            yield derive(report)


def _jobs(operators: Sequence[str], level: Level, device: torch.device, threads: int) -> list[Job]:
    return [
        Job(operator, level, index, device, threads)
        for operator in operators
        for index, case in enumerate(cases_of(operator, level))
        if device.type in case.devices
    ]


def _with_progress(jobs: Sequence[Job]) -> Iterator[Job]:
    """Prints a line for each job that is done, and below them the progress of the run."""
    with Progress(console=Console(stderr=True)) as progress:
        whole = progress.add_task("benchmarks", total=len(jobs))
        for job in jobs:
            start = time.monotonic()
            yield job
            seconds = time.monotonic() - start
            progress.console.print(f"{job.operator}, {job.case().name}: {seconds:.0f} s")
            progress.advance(whole)


def _run(job: Job) -> list[Result]:
    try:
        return in_child(job.device, worker.measure, job)
    except Exception as error:  # the reference failed, or the process ended: the other cases still run
        return [_failure(job, error)]


def in_child(device: torch.device, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function of the worker in a new process, or in this one if it uses a GPU.

    Processes are forked from one that has imported everything and has computed nothing.
    """
    if device.type == "cuda":
        return function(*args, **kwargs)
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.worker"])
    with (
        mock.patch.dict(os.environ, NO_CACHE_OF_SMALL_BLOCKS | _NO_SPINNING),
        ProcessPoolExecutor(1, mp_context=context) as pool,
    ):
        return pool.submit(function, *args, **kwargs).result()


def _failure(job: Job, error: Exception) -> Result:
    """A result that says that the case could not run, as a failure of the operator."""
    case = job.case()
    blank = blank_result(job.operator, case, case.modes[0])
    return replace(blank, provider=OWN, status="failed", detail=message_of(error))


@contextmanager
def _fresh_compiler_cache() -> Iterator[None]:
    """An empty cache, so that the first call of a compiled provider includes its compilation."""
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as folder,
        mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder),
    ):
        yield
