"""Checks the providers of a case against the reference, and times those that agree."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.agreement import agrees, error_of, reference_outputs
from benchmarks.case import OWN, Case, Mode, Provider
from benchmarks.limits import measure_bandwidth
from benchmarks.memory import cost_of
from benchmarks.results import Result, Status
from benchmarks.timing import SWEEP_SCHEDULE, Call, Schedule, Times, time_in_turns

# Peers that take longer are timed in the first regime only.
_SLOW_SECONDS = 0.5

# Results without times, with the calls to be timed.
Checked = list[tuple[Result, Call | None]]
Known = dict[str, dict[str, float]]  # seconds of a call of each mode and provider


def measure_case(
    operator: str, case: Case, device: torch.device, schedule: Schedule, regimes: Iterable[str]
) -> list[Result]:
    """A result for each regime, mode and provider. Peaks are measured before the allocator keeps memory."""
    checked = _check_all(operator, case, case.tensors(device), device)
    checked, known = _with_memory(checked, device)
    results: list[Result] = []
    for regime in regimes:
        limits = {} if case.sweep or schedule.rounds == 1 else measure_bandwidth(device, SWEEP_SCHEDULE)
        for mode in case.modes:
            of_mode = [(result, call) for result, call in checked if result.mode == mode.name]
            slow = {r.provider for r in results if r.mode == mode.name and _is_slow_peer(r)}
            calls = {r.provider: call for r, call in of_mode if call is not None and r.provider not in slow}
            times = time_in_turns(calls, device, schedule, known.pop(mode.name, None))
            results += [
                _timed(replace(r, regime=regime, limits=limits), times.get(r.provider)) for r, _ in of_mode
            ]
    return results


def blank_result(operator: str, case: Case, mode: Mode) -> Result:
    """The result as it is known before anything has run, without the regime and the provider."""
    return Result(
        operator=operator,
        case=case.name,
        size=case.size,
        dtype=str(case.dtype).removeprefix("torch."),
        sweep=case.sweep,
        threads=torch.get_num_threads(),
        mode=mode.name,
        regime="",
        provider="",
        status="timed",
        images=case.images,
    )


def message_of(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _check_all(operator: str, case: Case, tensors: Sequence[Tensor], device: torch.device) -> Checked:
    reference = reference_outputs(case, tensors)
    providers = [provider for provider in case.providers if device.type in provider.devices]
    functions = {provider.name: provider.callable() for provider in providers}
    checked: Checked = []
    for mode in case.modes:
        blank = replace(
            blank_result(operator, case, mode),
            read_bytes=sum(tensor.nbytes for tensor in tensors),
            written_bytes=sum(tensor.nbytes for tensor in tensors[mode.differentiated]),
            flops=case.flops(mode),
        )
        leaves = mode.leaves(tensors)
        for provider in providers:
            if provider.has(mode):
                call = partial(mode, functions[provider.name], leaves)
                result = _check(replace(blank, provider=provider.name), provider, mode, call, reference)
                checked.append((result, call if result.status == "timed" else None))
    return checked


def _check(blank: Result, provider: Provider, mode: Mode, call: Call, reference: Sequence[Tensor]) -> Result:
    if not provider.installed:
        return replace(blank, status="not installed", detail=provider.package or "")
    start = time.monotonic()
    try:
        outputs = call()
        if outputs[0].is_cuda:
            torch.cuda.synchronize()
    except Exception as error:  # libraries raise errors of any type, and the others are still timed
        return replace(blank, status="failed", detail=message_of(error))
    seconds = time.monotonic() - start
    difference = error_of(outputs, reference, mode)
    status: Status = "timed" if agrees(difference, getattr(torch, blank.dtype)) else "disagrees"
    return replace(blank, status=status, error=difference, first_call_seconds=seconds)


def _with_memory(checked: Checked, device: torch.device) -> tuple[Checked, Known]:
    """The results with their peak memory, and the seconds that the call for it took."""
    measured: Checked = []
    known: Known = {}
    for result, call in checked:
        if call is not None:
            with suppress(RuntimeError):  # the call needs more memory than there is
                cost = cost_of(call, device)
                known.setdefault(result.mode, {})[result.provider] = cost.seconds
                result = replace(result, peak_bytes=cost.peak_bytes)
        measured.append((result, call))
    return measured, known


def _is_slow_peer(result: Result) -> bool:
    return result.provider != OWN and result.median is not None and result.median > _SLOW_SECONDS


def _timed(result: Result, times: Times | Exception | None) -> Result:
    if times is None:
        return replace(result, status="too slow") if result.status == "timed" else result
    if isinstance(times, Exception):
        return replace(result, status="failed", detail=message_of(times))
    return replace(result, quantiles=times.quantiles, rounds=times.rounds, few_rounds=times.few)
