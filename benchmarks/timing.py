"""Times of calls that take turns, so that a slowdown of the machine affects all of them."""

import importlib.util
import time
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch.utils.benchmark import Timer

Call = Callable[[], Any]
Sampler = Callable[[], list[float]]

# A sample of a short call is a mean over this many seconds.
_SAMPLE_SECONDS = 5e-3
# An untimed call precedes each timed call that takes up to this many seconds: a virtual machine returns huge
# pages that were free for a second to its host, and the next call would pay for that.
_WARMED_SECONDS = 0.25
_LEAST_ROUNDS = 3
_LONG_SECONDS = 0.5
# The least number of rounds does not apply to calls that take longer.
_VERY_LONG_SECONDS = 1.0


class Schedule(NamedTuple):
    """How often each call is timed: less often if that takes more than `seconds`, but at least three times.

    The minimum does not apply to calls of more than a second.
    """

    rounds: int
    seconds: float


SCHEDULES = {"smoke": Schedule(1, 0.0), "quick": Schedule(7, 0.1), "full": Schedule(15, 0.4)}
SWEEP_SCHEDULE = Schedule(9, 0.2)


class Times(NamedTuple):
    """Quantiles of the seconds of a call, and how often it was timed."""

    quantiles: dict[str, float]
    rounds: int
    few: bool  # fewer rounds than planned, because the call is slow


def time_in_turns(
    calls: Mapping[str, Call],
    device: torch.device,
    schedule: Schedule,
    known: Mapping[str, float] | None = None,
) -> dict[str, Times | Exception]:
    """Times calls that have run before.

    The outcome of a call that now fails, perhaps for lack of memory, is its error.
    The `known` seconds of a very long call replace the calls that would find out how long it takes.
    """
    known = known or {}
    outcomes: dict[str, Times | Exception] = {}
    timed: dict[str, tuple[Sampler, set[int], list[list[float]]]] = {}
    for name, call in calls.items():
        try:
            seconds = _seconds(call, device, known.get(name))
            sampler = _sampler(call, device, seconds)
        except RuntimeError as error:
            outcomes[name] = error
            continue
        turns = set(range(0, schedule.rounds, _stride(seconds, schedule)))
        # The call that measured the duration counts as a sample if it is long.
        samples = [[seconds]] if seconds > _LONG_SECONDS else []
        timed[name] = sampler, turns - {0} if samples else turns, samples
    for turn in range(schedule.rounds):
        for sampler, turns, samples in timed.values():
            if turn in turns:
                samples.append(sampler())
    for name, (_, _, samples) in timed.items():
        few = len(samples) < schedule.rounds / 2
        outcomes[name] = Times(_quantiles(list(chain.from_iterable(samples))), len(samples), few)
    return outcomes


def _seconds(call: Call, device: torch.device, known: float | None) -> float:
    """The seconds of a call: the known ones if they are many, otherwise the better of two calls."""
    if known is not None and known > _VERY_LONG_SECONDS:
        return known
    return min(seconds_of(call, device) for _ in range(2))


def _stride(seconds: float, schedule: Schedule) -> int:
    """The distance between the turns of a call: slow calls take few turns, spread over the whole time."""
    least = _LEAST_ROUNDS if seconds < _VERY_LONG_SECONDS else 1
    affordable = max(int(schedule.seconds / max(seconds, _SAMPLE_SECONDS)), least)
    return max(1, schedule.rounds // affordable)


def seconds_of(call: Call, device: torch.device) -> float:
    """Seconds of one call, including all work that it starts on a GPU."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _sampler(call: Call, device: torch.device, seconds: float) -> Sampler:
    """A function that takes samples of the seconds of a call, which takes about `seconds`."""
    if device.type == "cuda":
        return _do_bench(call) if importlib.util.find_spec("triton") else lambda: _events(call)
    if seconds > 10 * _SAMPLE_SECONDS:  # Timer would make two more calls to warm up
        calls = 2 if seconds <= _WARMED_SECONDS else 1
        return lambda: [seconds_of(call, device) for _ in range(calls)][-1:]
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    number = max(1, int(_SAMPLE_SECONDS / timer.timeit(1).mean))
    return lambda: [timer.timeit(number).mean]


def _do_bench(call: Call) -> Sampler:
    from triton.testing import do_bench

    milliseconds = 1e3 * _SAMPLE_SECONDS
    return lambda: [
        1e-3 * sample
        for sample in do_bench(call, warmup=milliseconds, rep=2 * milliseconds, return_mode="all")
    ]


def _events(call: Call, calls: int = 5) -> list[float]:
    """Seconds of calls by CUDA events, each with a cold L2 cache."""
    cache = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(calls)]
    for start, end in pairs:
        cache.zero_()
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return [1e-3 * start.elapsed_time(end) for start, end in pairs]


def _quantiles(samples: list[float]) -> dict[str, float]:
    times = torch.tensor(samples, dtype=torch.float64)
    return {f"{round(100 * q)}%": float(times.quantile(q)) for q in (0.2, 0.5, 0.8)}
