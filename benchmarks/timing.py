"""Times of calls that take turns, so that what slows the machine down meets all of them."""

import importlib.util
import time
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch.utils.benchmark import Timer

Call = Callable[[], Any]
Sampler = Callable[[], list[float]]

# Samples of short calls are means over this many seconds.
_SAMPLE_SECONDS = 5e-3
# Up to so many, an untimed call goes before each timed one: a virtual machine gives huge pages that were free
# for a second back to its host, and the next call would pay for that.
_WARMED_SECONDS = 0.25
_LEAST_ROUNDS = 3
_LONG_SECONDS = 0.5
# The least rounds do not hold for longer ones.
_VERY_LONG_SECONDS = 1.0


class Schedule(NamedTuple):
    """How often each call is timed: fewer times where these take longer than so many seconds, but thrice.

    What takes more than a second is not held to that.
    """

    rounds: int
    seconds: float


SCHEDULES = {"smoke": Schedule(1, 0.0), "quick": Schedule(7, 0.1), "full": Schedule(15, 0.4)}
SWEEP_SCHEDULE = Schedule(9, 0.2)


class Times(NamedTuple):
    """Seconds of a call, and how often it was timed."""

    quantiles: dict[str, float]
    rounds: int
    few: bool  # because it is slow


def time_in_turns(
    calls: Mapping[str, Call],
    device: torch.device,
    schedule: Schedule,
    known: Mapping[str, float] | None = None,
) -> dict[str, Times | Exception]:
    """Times of calls that have run before; of one that now fails, for want of memory perhaps, its error.

    `known` seconds of a very long call spare those that tell how long it takes.
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
        # The call that told how long it takes counts if that is long.
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
    """What a call takes: what is known if that is very long, otherwise the better of two calls."""
    if known is not None and known > _VERY_LONG_SECONDS:
        return known
    return min(seconds_of(call, device) for _ in range(2))


def _stride(seconds: float, schedule: Schedule) -> int:
    """Slow calls take every so manieth turn only, spread over the whole time."""
    least = _LEAST_ROUNDS if seconds < _VERY_LONG_SECONDS else 1
    affordable = max(int(schedule.seconds / max(seconds, _SAMPLE_SECONDS)), least)
    return max(1, schedule.rounds // affordable)


def seconds_of(call: Call, device: torch.device) -> float:
    """Of one call, with all that it starts on a GPU."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _sampler(call: Call, device: torch.device, seconds: float) -> Sampler:
    """What takes samples of the seconds that a call takes, which is about so many."""
    if device.type == "cuda":
        return _do_bench(call) if importlib.util.find_spec("triton") else lambda: _events(call)
    if seconds > 10 * _SAMPLE_SECONDS:  # Timer would call twice more, to warm up
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
    """By CUDA events, each call with a cold L2 cache."""
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
