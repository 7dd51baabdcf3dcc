"""The results of `vtadl reproduce`: its files, and the table beside the results of the paper."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vtadl.common.files import atomic_path
from vtadl.errors import InputError
from vtadl.settings import group_settings

METRICS = ("image_auroc", "pixel_auroc", "aupro")

# Mishra et al., "VT-ADL", ISIE 2021: the AUROC of MNIST's digits in table II, and what it calls PRO of MVTec
# AD, which in the authors' code is the AUROC of pixels.
PAPER: dict[str, dict[str, float]] = {
    "mnist": dict(
        zip("0123456789", (0.99, 1.0, 0.976, 0.976, 0.984, 0.971, 0.995, 0.99, 0.974, 0.99), strict=True)
    ),
    "mvtec": {
        "carpet": 0.773,
        "grid": 0.871,
        "leather": 0.728,
        "tile": 0.796,
        "wood": 0.781,
        "bottle": 0.949,
        "cable": 0.776,
        "capsule": 0.672,
        "hazelnut": 0.897,
        "metal_nut": 0.726,
        "pill": 0.705,
        "screw": 0.928,
        "toothbrush": 0.901,
        "transistor": 0.796,
        "zipper": 0.808,
    },
}
PAPER_METRIC = {"mnist": "image_auroc", "mvtec": "pixel_auroc"}

Runs = dict[str, dict[str, dict[str, float]]]  # metrics by class and seed


def read_runs(
    output: Path, protocol: str, settings: dict[str, Any], defaults: Mapping[str, Any] = {}
) -> Runs:
    """Reads the runs in results.json; there are none if the file does not exist.

    Args:
        output: Folder of the file.
        protocol: Name of the protocol.
        settings: The settings that the runs have to have.
        defaults: Settings of files of earlier versions that do not name them.

    Raises:
        InputError: If the file is damaged, or has results of another protocol or of other settings.
    """
    path = output / "results.json"
    if not path.exists():
        return {}
    try:
        results = json.loads(path.read_text())
        saved, runs = (results["set"], {**defaults, **results["settings"]}), results["runs"]
        saved[1]["model"] = group_settings(saved[1]["model"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a results file: {error!r}") from error
    if saved != (protocol, settings):
        raise InputError(f"{path} has results of other settings; choose another output folder")
    return runs  # type: ignore[no-any-return]


def write_runs(output: Path, protocol: str, settings: dict[str, Any], runs: Runs) -> None:
    """Writes results.json and results.md."""
    with atomic_path(output / "results.json") as path:
        path.write_text(json.dumps({"set": protocol, "settings": settings, "runs": runs}, indent=2) + "\n")
    with atomic_path(output / "results.md") as path:
        path.write_text(table(protocol, runs) + "\n")


def table(protocol: str, runs: Runs) -> str:
    """Makes a Markdown table: mean ± standard deviation over the seeds of each class, and the paper's result.

    With several classes, the last row is the mean over them.
    """
    metrics = [
        metric for metric in METRICS if all(metric in run for r in runs.values() for run in r.values())
    ]
    lines = [
        f"| {protocol} | {' | '.join(metrics)} | seconds | paper: {PAPER_METRIC[protocol]} |",
        "| --- |" + " --- |" * (len(metrics) + 2),
    ]
    for name, seeds in runs.items():
        cells = [_mean_and_std([run[metric] for run in seeds.values()]) for metric in metrics]
        cells.append(f"{mean(run['seconds'] for run in seeds.values()):.0f}")
        lines.append(f"| {name} | {' | '.join(cells)} | {PAPER[protocol].get(name, '')} |")
    if len(runs) > 1:
        cells = [f"{mean(_mean(seeds, metric) for seeds in runs.values()):.4f}" for metric in metrics]
        published = [PAPER[protocol][name] for name in runs if name in PAPER[protocol]]
        lines.append(f"| mean | {' | '.join(cells)} | | {f'{mean(published):.3f}' if published else ''} |")
    return "\n".join(lines)


def _mean(seeds: dict[str, dict[str, float]], metric: str) -> float:
    return mean(run[metric] for run in seeds.values())


def _mean_and_std(values: Sequence[float]) -> str:
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
