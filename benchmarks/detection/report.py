"""The results of a comparison as JSON and as a Markdown table."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.detection.comparison import Result
from vtadl.common.files import atomic_path

_COLUMNS = (
    "category",
    "method",
    "image AUROC",
    "pixel AUROC",
    "AUPRO",
    "1 - AUPRO",
    "fit, CPU s",
    "images/CPU s",
)


def write(results: Sequence[Result], conditions: dict[str, Any], folder: Path) -> Iterator[Path]:
    """Writes `detection.json` and `detection.md` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    report = {
        **conditions,
        "results": [
            asdict(result) | {"times_first": _without_nan(result.relative_to(first))}
            for first, result in _with_first(results)
        ],
    }
    for name, text in (("json", json.dumps(report, indent=1)), ("md", markdown(results))):
        with atomic_path(folder / f"detection.{name}") as path:
            path.write_text(text + "\n", encoding="utf-8")
        yield folder / f"detection.{name}"


def markdown(results: Sequence[Result]) -> str:
    """A table, in which a factor relates a figure to that of the category's first method."""
    rows = [_COLUMNS, ("---", "---", *["---:"] * (len(_COLUMNS) - 2))]
    rows += [_row(result, result.relative_to(first)) for first, result in _with_first(results)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(result: Result, times_first: dict[str, float]) -> tuple[str, ...]:
    metrics = (f"{value:.3f}" for value in (result.image_auroc, result.pixel_auroc, result.aupro))
    missing, fit, speed = (
        _factor(times_first[key]) for key in ("1 - aupro", "fit_cpu_seconds", "images_per_cpu_second")
    )
    times = (f"{result.fit_cpu_seconds:.1f}, {fit}", f"{result.images_per_cpu_second:.1f}, {speed}")
    return (result.category, result.method, *metrics, missing, *times)


def _factor(value: float) -> str:
    return f"{value:.2f}x" if math.isfinite(value) else "-"


def _with_first(results: Sequence[Result]) -> Iterator[tuple[Result, Result]]:
    """Each result, after the first one of its category."""
    first: dict[str, Result] = {}
    for result in results:
        yield first.setdefault(result.category, result), result


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    """The values, of which JSON cannot hold those that are NaN."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
