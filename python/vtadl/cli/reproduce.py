"""`vtadl reproduce`: the protocols of the paper, for each class and each seed."""

import logging
import time
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import lightning as L
import yaml  # type: ignore[import-untyped]

from vtadl.checkpoints import load_detector
from vtadl.cli.parsing import Parser, one_sentence
from vtadl.cli.reproduce_results import METRICS, PAPER, read_runs, table, write_runs
from vtadl.common.ranges import require_positive
from vtadl.data import ImageDataModule, MNISTDigit, MVTecAD
from vtadl.density import DensitySettings
from vtadl.errors import InputError
from vtadl.images.tiles import as_pair
from vtadl.lightning_module import AnomalyDetector
from vtadl.model.settings import NetworkSettings, choose_image_size
from vtadl.settings import group_settings, make_settings, require_known
from vtadl.training.trainer import make_trainer


def mnist(
    root: str,
    output: str,
    digits: list[int] = list(range(10)),  # noqa: B006
    seeds: int = 3,
    epochs: int | None = None,
    model: dict[str, Any] = {},  # noqa: B006
) -> None:
    """Trains a detector for each digit of MNIST as the normal class, and tests it with all test images.

    Args:
        root: Folder of the four idx files.
        output: Folder of results.json, results.md and checkpoints, also given by `-o`. Runs in results.json
            are not repeated.
        digits: The digits that are normal, one after another.
        seeds: Number of runs for each digit.
        epochs: Number of passes over the training images; by default that of the packaged settings. It has no
            effect where nothing that is trained changes a score, as with the packaged settings.
        model: Settings of the model that replace packaged ones, as in `--model.likelihood paper`; a setting
            may also be given with its group, as in `--model.density.likelihood paper`.
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
        {},
    )


def mvtec(
    root: str,
    output: str,
    categories: list[str] = list(PAPER["mvtec"]),  # noqa: B006
    seeds: int = 3,
    epochs: int | None = None,
    model: dict[str, Any] = {},  # noqa: B006
    evaluation_size: int | tuple[int, int] | None = None,
) -> None:
    """Trains a detector for each category of MVTec AD, and tests it with the test images of that category.

    With `--backbone NAME`, short for `--model.backbone NAME`, the frozen features of a backbone are described
    too.

    Args:
        root: Folder of the categories' folders.
        output: Folder of results.json, results.md and checkpoints, also given by `-o`. Runs in results.json
            are not repeated.
        categories: Names of the categories.
        seeds: Number of runs for each category.
        epochs: Number of passes over the training images; by default that of the packaged settings. It has no
            effect where nothing that is trained changes a score, as with the packaged settings.
        model: Settings of the model that replace packaged ones, as in `--model.likelihood paper`; a setting
            may also be given with its group, as in `--model.density.likelihood paper`.
        evaluation_size: Height and width in pixels, or one number for both, to which masks are resized for
            the metrics of pixels; by default masks keep their own size.
    """

    def data(name: str, seed: int, size: Any) -> ImageDataModule:
        return MVTecAD(
            root, name, image_size=size, val_fraction=0.15, seed=seed, evaluation_size=evaluation_size
        )

    size = None if evaluation_size is None else list(as_pair(evaluation_size))
    pixels = {"evaluation_size": size}
    _reproduce("mvtec", "small", data, categories, seeds, Path(output).expanduser(), epochs, model, pixels)


def _reproduce(
    protocol: str,
    config: str,
    data: Callable[[str, int, Any], ImageDataModule],
    classes: Sequence[str],
    seeds: int,
    output: Path,
    epochs: int | None,
    model: dict[str, Any],
    pixels: dict[str, Any],
) -> None:
    """Runs what is not in results.json yet, and writes the results after each run.

    `pixels` are settings of the metrics of pixels, which earlier versions evaluated at the network's size.
    """
    require_positive(seeds=seeds, epochs=epochs)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    packaged = yaml.safe_load((resources.files("vtadl.configs") / f"{config}.yaml").read_text())
    model = _merge(group_settings(packaged["model"]), group_settings(model))
    _require_valid(model)
    groups = make_settings(model)
    network, density = groups.get("network", NetworkSettings()), groups.get("density", DensitySettings())
    size = choose_image_size(network.image_size, density.backbone, density.backbone_size)
    settings = {"epochs": epochs or packaged["trainer"]["max_epochs"], "model": model, **pixels}
    of_earlier_versions = {name: list(as_pair(size)) for name in pixels}
    runs = read_runs(output, protocol, settings, of_earlier_versions)
    for name in classes:
        for seed in range(seeds):
            if str(seed) in runs.get(name, {}):
                continue
            print(f"{protocol} {name}, seed {seed}")
            folder = output / "checkpoints" / f"{name}-{seed}"
            metrics = _run(data(name, seed, size), settings, seed, folder)
            runs.setdefault(name, {})[str(seed)] = metrics
            print(", ".join(f"{metric} {value:.4g}" for metric, value in metrics.items()))
            write_runs(output, protocol, settings, runs)
    print(table(protocol, runs))
    print(f"results: {output / 'results.json'}, {output / 'results.md'}")


def _run(data: ImageDataModule, settings: dict[str, Any], seed: int, folder: Path) -> dict[str, float]:
    """Trains and tests one detector; returns its metrics and the seconds that this took."""
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
    trainer.fit(AnomalyDetector.from_settings(**settings["model"]), data)
    (metrics,) = trainer.test(load_detector(folder / "best.ckpt"), data, verbose=False)
    selected = {name: metrics[name] for name in METRICS if name in metrics}
    return selected | {"seconds": round(time.perf_counter() - start, 1)}


def _merge(packaged: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Replaces settings of the model, group by group."""
    merged = dict(packaged)
    for name, value in changes.items():
        merged[name] = merged.get(name, {}) | value if isinstance(value, dict) else value
    return merged


def _require_valid(model: dict[str, Any]) -> None:
    """Raises InputError, which names the setting, if one does not exist or its value cannot be used."""
    require_known(model)
    parser = Parser(exit_on_error=False)
    parser.add_class_arguments(AnomalyDetector, "model")
    try:
        parser.parse_object({"model": model})  # checks the types
    except ArgumentError as error:
        raise InputError(one_sentence(str(error))) from error
    make_settings(model)
