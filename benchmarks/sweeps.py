"""Sweeps of sizes, of the dtype and of the number of threads, around a base that all of them share."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from benchmarks.case import thread_counts

THREADS = "threads"
_BITS = "bits per number"
# All these sizes are too small for a GPU.
_ON_CPU: dict[str, Any] = {"devices": ("cpu",)}


class Point(NamedTuple):
    """The sizes of a case, and the keywords that make a `Case` part of a sweep."""

    name: str
    sizes: dict[str, int]
    options: dict[str, Any]


def around(sizes: Mapping[str, int], others: Mapping[str, Sequence[int]]) -> Iterator[Point]:
    """The base case of these sizes, then a case for each value in `others`, which replaces one size."""
    base = dict(sizes)
    yield Point(
        "base of the sweeps", base, {**_ON_CPU, "sweep": base | {_BITS: 32, THREADS: torch.get_num_threads()}}
    )
    for name, values in others.items():
        for value in values:
            yield Point(f"{name} = {value}", base | {name: value}, {**_ON_CPU, "sweep": {name: value}})


def around_types_and_threads(sizes: Mapping[str, int]) -> Iterator[Point]:
    """The base case in bfloat16, and with fewer threads."""
    base = dict(sizes)
    yield Point(f"{_BITS} = 16", base, {**_ON_CPU, "sweep": {_BITS: 16}, "dtype": torch.bfloat16})
    for threads in thread_counts()[:-1]:
        options = {**_ON_CPU, "sweep": {THREADS: threads}, "threads": threads}
        yield Point(f"{THREADS} = {threads}", base, options)
