"""The results of a run, as JSON."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.case import OWN
from benchmarks.limits import least_seconds
from vtadl.common.files import atomic_path

FILE = "results.json"
_SCHEMA = 2

Status = Literal["timed", "disagrees", "failed", "not installed", "too slow"]
# The key of a comparison between providers: operator, case, mode, regime.
Comparison = tuple[str, str, str, str]


@dataclass(frozen=True)
class Result:
    """One provider in one mode of one case; a provider that is not timed has no times."""

    operator: str
    case: str
    size: str
    dtype: str
    sweep: dict[str, int] | None  # the quantity that varies, and its value here
    threads: int
    mode: str
    regime: str
    provider: str
    status: Status
    detail: str = ""
    error: float | None = None  # the largest relative error of the value and the gradients
    quantiles: dict[str, float] | None = None  # seconds
    rounds: int = 0
    few_rounds: bool = False  # fewer rounds than planned, because the call is slow
    first_call_seconds: float | None = None  # including compilation
    peak_bytes: int | None = None
    read_bytes: int = 0  # inputs, once
    written_bytes: int = 0  # gradients, once
    flops: float = 0.0
    images: int = 0  # in a call; 0 where images per second are not reported
    # The limits at the time of this result; those of the run hold for the others.
    limits: dict[str, float] = field(default_factory=dict)
    fraction_of_limit: float | None = None
    times_fastest_peer: float | None = None

    @property
    def median(self) -> float | None:
        return self.quantiles["50%"] if self.quantiles else None

    @property
    def images_per_second(self) -> float | None:
        return self.images / self.median if self.images and self.median else None

    @property
    def comparison(self) -> Comparison:
        return self.operator, f"{self.case}: {self.size}", self.mode, self.regime


@dataclass(frozen=True)
class Report:
    """All results of a run, and the conditions that they depend on."""

    environment: dict[str, Any]
    limits: dict[str, float]
    results: list[Result] = field(default_factory=list)

    @property
    def machine(self) -> str:
        """The hardware, in one line."""
        environment = self.environment
        return environment["gpu"] or f"{environment['cpu']}, {environment['threads']} threads"

    @property
    def regimes(self) -> list[str]:
        """The regimes in the order of the run; allocation disturbs the last one least."""
        return [regime for regime in dict.fromkeys(result.regime for result in self.results) if regime]

    def comparisons(self, *, sweeps: bool = False) -> Iterator[tuple[Comparison, dict[str, Result]]]:
        """The results of each comparison by provider, either of the cases or of the sweeps."""
        groups: dict[Comparison, dict[str, Result]] = defaultdict(dict)
        for result in self.results:
            if (result.sweep is not None) == sweeps:
                groups[result.comparison][result.provider] = result
        yield from groups.items()

    def failures(self) -> list[Result]:
        return [result for result in self.results if result.status in ("failed", "disagrees")]


def derive(report: Report) -> Report:
    """Adds the figures that compare each result with the limits and with the other providers."""
    groups: dict[Comparison, list[Result]] = defaultdict(list)
    for result in report.results:
        groups[result.comparison].append(result)

    def derived(result: Result) -> Result:
        if result.median is None:
            return result
        limits = report.limits | result.limits
        least = least_seconds(result.read_bytes, result.written_bytes, result.flops, limits)
        peers = [
            other.median
            for other in groups[result.comparison]
            if other.median is not None and other.provider not in (OWN, result.provider)
        ]
        ratio = result.median / min(peers) if peers else None
        return replace(result, fraction_of_limit=least / result.median, times_fastest_peer=ratio)

    return replace(report, results=[derived(result) for result in report.results])


def write(report: Report, folder: Path) -> Path:
    """Writes one JSON object: the environment and the limits are indented, each result is one line."""
    with atomic_path(folder / FILE) as path:
        path.write_text(_as_json(report))
    return folder / FILE


def _as_json(report: Report) -> str:
    head = {"schema": _SCHEMA, "environment": report.environment, "limits": report.limits, "results": []}
    before, _, after = json.dumps(head, indent=1).rpartition("[]")
    lines = ",\n".join(f"  {json.dumps(asdict(result))}" for result in report.results)
    return f"{before}[\n{lines}\n ]{after}\n" if lines else f"{before}[]{after}\n"


def read(path: Path) -> Report:
    """Reads a report.

    Raises:
        ValueError: the file holds no results of this version; the message names it.
    """
    try:
        fields = json.loads(path.read_text())
        if fields.pop("schema") != _SCHEMA:
            raise ValueError("another version wrote it")
        results = [Result(**result) for result in fields.pop("results")]
        return Report(**fields, results=results)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold results that this version can read: {error}") from error
