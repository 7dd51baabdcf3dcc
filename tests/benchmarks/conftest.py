"""A small case and results that several tests share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.case import OWN, Case, Provider
from benchmarks.results import Report, Result, derive


def sum_of_products(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum()


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """A case of the sum of products, with the operator and one peer."""

    def make(peer: Provider, **options: Any) -> Case:
        return Case(
            "products",
            "2 x 3",
            lambda: (torch.randn(2, 3), torch.randn(2, 3)),
            sum_of_products,
            (Provider(OWN, sum_of_products), peer),
            flops=lambda mode: 12.0,
            **options,
        )

    return make


@pytest.fixture
def make_result() -> Callable[..., Result]:
    """A result of a call that takes the given number of seconds."""

    def make(seconds: float, **fields: Any) -> Result:
        quantiles = {"20%": 0.9 * seconds, "50%": seconds, "80%": 1.1 * seconds}
        defaults: dict[str, Any] = {
            "operator": "gmm",
            "case": "wide head",
            "size": "2 x 3",
            "dtype": "float32",
            "sweep": None,
            "threads": 2,
            "mode": "gradients",
            "regime": "fresh",
            "provider": OWN,
            "status": "timed",
            "error": 1e-7,
            "quantiles": quantiles,
            "rounds": 15,
            "first_call_seconds": 1.0,
            "peak_bytes": 1_000_000,
            "read_bytes": 4_000_000,
            "written_bytes": 2_000_000,
            "flops": 5e6,
        }
        return Result(**defaults | fields)

    return make


@pytest.fixture
def report(make_result: Callable[..., Result]) -> Report:
    """Two cases, one peer, both regimes, and sweeps over N and over threads."""
    results = [
        make_result(seconds * factor * times, case=case, regime=regime, mode=mode, provider=provider)
        for case, seconds in (("wide head", 1e-3), ("narrow head", 1e-4))
        for regime, factor in (("fresh", 2), ("warm", 1))
        for mode in ("forward", "gradients")
        for provider, times in ((OWN, 1), ("compiled", 3))
    ]
    for axis, values in (("N", (10, 100)), ("threads", (1, 2))):
        results += [
            make_result(
                1e-3 * value, case=f"{axis} = {value}", sweep={axis: value}, threads=value, regime="warm"
            )
            for value in values
        ]
    environment = {
        "date": "2030-01-31",
        "commit": "abc",
        "cpu": "A CPU",
        "cpu_capability": "AVX512",
        "gpu": None,
        "threads": 2,
        "packages": {"torch": "2.13.0"},
    }
    limits = {"read": 2e10, "write": 1e10, "copy": 1.5e10, "flops": 1e11}
    return derive(Report(environment, limits, results))
