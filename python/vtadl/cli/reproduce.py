"""`vtadl reproduce`: the paper's protocols, class by class and seed by seed."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import lightning as L
import yaml  # type: ignore[import-untyped]

from vtadl.checkpoints import load_detector
from vtadl.common.files import atomic_path
from vtadl.common.ranges import require_positive
from vtadl.data import ImageDataModule, MNISTDigit, MVTecAD
from vtadl.errors import InputError
from vtadl.lightning_module import AnomalyDetector
from vtadl.settings import group_settings
from vtadl.training.trainer import make_trainer

FIGURES = ("image_auroc", "pixel_auroc", "aupro")

# Mishra et al., "VT-ADL", ISIE 2021: AUROC of MNIST's digits in table II, and what it calls PRO of MVTec AD,
# which in the authors' code is the AUROC of pixels.
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
COMPARED = {"mnist": "image_auroc", "mvtec": "pixel_auroc"}

Runs = dict[str, dict[str, dict[str, float]]]  # by class and seed


def mnist(
    root: str,
    output: str,
    digits: list[int] = list(range(10)),  # noqa: B006
    seeds: int = 3,
    epochs: int | None = None,
    model: dict[str, Any] = {},  # noqa: B006
) -> None:
    """Trains on one digit of MNIST after the other and tests on all test images.

    Args:
        root: Folder of the four idx files.
        output: Folder for results.json, results.md and checkpoints; what is there already is not run again.
        digits: Which digits are normal in turn.
        seeds: How many runs of each.
        epochs: Passes over the training images, if not those of the packaged settings.
        model: Settings of the model other than the packaged ones, as in `--model.likelihood paper`.
    """

    def data(name: str, seed: int, size: Any) -> ImageDataModule:
        return MNISTDigit(root, int(name), size, seed=seed)

    _reproduce(
        "mnist",
        "mnist",
        data,
        [str(digit) for digit in digits],
        seeds,
        Path(output).expanduser(),
        epochs,
        model,
    )


def mvtec(
    root: str,
    output: str,
    categories: list[str] = list(PAPER["mvtec"]),  # noqa: B006
    seeds: int = 3,
    epochs: int | None = None,
    model: dict[str, Any] = {},  # noqa: B006
) -> None:
    """Trains on one category of MVTec AD after the other and tests on its test images.

    Args:
        root: Folder of the categories' folders.
        output: Folder for results.json, results.md and checkpoints; what is there already is not run again.
        categories: Which ones.
        seeds: How many runs of each.
        epochs: Passes over the training images, if not those of the packaged settings.
        model: Settings of the model other than the packaged ones, as in `--model.likelihood paper`.
    """

    def data(name: str, seed: int, size: Any) -> ImageDataModule:
        return MVTecAD(root, name, image_size=size, val_fraction=0.15, seed=seed)

    _reproduce("mvtec", "small", data, categories, seeds, Path(output).expanduser(), epochs, model)


def _reproduce(
    name: str,
    config: str,
    data: Callable[[str, int, Any], ImageDataModule],
    classes: Sequence[str],
    seeds: int,
    output: Path,
    epochs: int | None,
    model: dict[str, Any],
) -> None:
    """Runs what results.json lacks, and writes it anew after each run."""
    require_positive(seeds=seeds, epochs=epochs)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    packaged = yaml.safe_load((resources.files("vtadl.configs") / f"{config}.yaml").read_text())
    model = _merge(group_settings(packaged["model"]), group_settings(model))
    settings = {"epochs": epochs or packaged["trainer"]["max_epochs"], "model": model}
    runs = read_runs(output, name, settings)
    for chosen in classes:
        for seed in range(seeds):
            if str(seed) in runs.get(chosen, {}):
                continue
            print(f"{name} {chosen}, seed {seed}")
            folder = output / "checkpoints" / f"{chosen}-{seed}"
            figures = _run(data(chosen, seed, model["network"]["image_size"]), settings, seed, folder)
            runs.setdefault(chosen, {})[str(seed)] = figures
            print(", ".join(f"{figure} {value:.4g}" for figure, value in figures.items()))
            _write(output, name, settings, runs)
    print(table(name, runs))
    print(f"results: {output / 'results.json'}, {output / 'results.md'}")


def _run(data: ImageDataModule, settings: dict[str, Any], seed: int, folder: Path) -> dict[str, float]:
    """Figures of one run, and its seconds."""
    start = time.perf_counter()
    L.seed_everything(seed, verbose=False)
    trainer = make_trainer(
        folder,
        max_epochs=settings["epochs"],
        devices=1,
        logger=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(_detector(settings["model"]), data)
    (metrics,) = trainer.test(load_detector(folder / "best.ckpt"), data, verbose=False)
    figures = {name: metrics[name] for name in FIGURES if name in metrics}
    return figures | {"seconds": round(time.perf_counter() - start, 1)}


def _merge(packaged: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings of the model with changes of some, group by group."""
    merged = dict(packaged)
    for name, value in changes.items():
        merged[name] = merged.get(name, {}) | value if isinstance(value, dict) else value
    return merged


def _detector(settings: dict[str, Any]) -> AnomalyDetector:
    try:
        return AnomalyDetector.from_settings(**settings)
    except TypeError as error:
        raise InputError(f"model cannot be set so: {error}") from error


def read_runs(output: Path, name: str, settings: dict[str, Any]) -> Runs:
    """The runs in results.json; none if there is no such file.

    Raises:
        InputError: If it is damaged, or of other settings.
    """
    path = output / "results.json"
    if not path.exists():
        return {}
    try:
        results = json.loads(path.read_text())
        known, runs = (results["set"], results["settings"]), results["runs"]
        known[1]["model"] = group_settings(known[1]["model"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no results file: {error!r}") from error
    if known != (name, settings):
        raise InputError(f"{path} has results of other settings; choose another output folder")
    return runs  # type: ignore[no-any-return]


def _write(output: Path, name: str, settings: dict[str, Any], runs: Runs) -> None:
    with atomic_path(output / "results.json") as path:
        path.write_text(json.dumps({"set": name, "settings": settings, "runs": runs}, indent=2) + "\n")
    with atomic_path(output / "results.md") as path:
        path.write_text(table(name, runs) + "\n")


def table(name: str, runs: Runs) -> str:
    """Mean ± standard deviation over the seeds beside the paper's figure, and the mean of all classes."""
    figures = [
        figure for figure in FIGURES if all(figure in run for r in runs.values() for run in r.values())
    ]
    lines = [
        f"| {name} | {' | '.join(figures)} | seconds | paper: {COMPARED[name]} |",
        "| --- |" + " --- |" * (len(figures) + 2),
    ]
    for chosen, seeds in runs.items():
        cells = [_spread([run[figure] for run in seeds.values()]) for figure in figures]
        cells.append(f"{mean(run['seconds'] for run in seeds.values()):.0f}")
        lines.append(f"| {chosen} | {' | '.join(cells)} | {PAPER[name].get(chosen, '')} |")
    if len(runs) > 1:
        cells = [f"{mean(_mean(seeds, figure) for seeds in runs.values()):.4f}" for figure in figures]
        published = [PAPER[name][chosen] for chosen in runs if chosen in PAPER[name]]
        lines.append(f"| mean | {' | '.join(cells)} | | {f'{mean(published):.3f}' if published else ''} |")
    return "\n".join(lines)


def _mean(seeds: dict[str, dict[str, float]], figure: str) -> float:
    return mean(run[figure] for run in seeds.values())


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
