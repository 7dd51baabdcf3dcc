"""The report of a test: metrics, curves and pictures in one self-contained HTML file."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
import yaml  # type: ignore[import-untyped]
from jinja2 import Environment, PackageLoader

from vtadl.common.files import atomic_path
from vtadl.lightning_module import AnomalyDetector
from vtadl.metrics import Evaluation, mean_metrics
from vtadl.report.plots import curve_plots, histogram_plot, history_plots, jpeg_data_uri
from vtadl.report.recorder import Recorder, Recording
from vtadl.training.history import read_history
from vtadl_ext import build_info

METRIC_LABELS = {
    "image_auroc": "image AUROC",
    "image_average_precision": "image AP",
    "image_f1_max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_average_precision": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "aupro": "AUPRO",
    "aupro_0.05": "AUPRO at 0.05",
}
PACKAGES = ("vtadl-ext", "torch", "lightning", "torchmetrics", "numpy", "pillow", "scikit-image")


@dataclass(frozen=True)
class DetectorResult:
    """The results of one detector that the report shows."""

    name: str
    evaluation: Evaluation
    recording: Recording
    thresholds: dict[str, dict[str, float]]  # of images and pixels, as `Calibration.summary` returns them
    history: Sequence[dict[str, float]] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def record_test(
    trainer: L.Trainer,
    module: AnomalyDetector,
    data: L.LightningDataModule,
    name: str,
    checkpoint: Path | None = None,
) -> list[DetectorResult]:
    """Tests a detector, or its checkpoint if one is given, and returns the results that a report shows.

    There is one result, with the given name, or one for each of several categories.
    """
    recorder = Recorder()
    trainer.callbacks.append(recorder)  # type: ignore[attr-defined]
    try:
        trainer.test(module, datamodule=data, ckpt_path=checkpoint, verbose=False)
    finally:
        trainer.callbacks.remove(recorder)  # type: ignore[attr-defined]
    history = read_history(checkpoint) if checkpoint else ()
    settings = {"model": dict(module.hparams), "data": _data_settings(data)}
    evaluation, recordings = module.evaluation, recorder.recordings
    if isinstance(evaluation, Evaluation):
        evaluations = dict.fromkeys(recordings, evaluation)
    else:
        evaluations = evaluation.by_category
    return [
        DetectorResult(
            name if len(recordings) == 1 else category,
            evaluations[category],
            recording,
            module.calibration.of(category).summary(),
            history,
            settings,
        )
        for category, recording in recordings.items()
    ]


def write_run_report(trainer: L.Trainer, module: AnomalyDetector, data: Any, checkpoint: str | None) -> Path:
    """Tests the checkpoint of a run and writes the report.

    The report is `report.html` in the trainer's root folder, or the root folder itself if its name ends in
    `.html`.
    """
    folder = Path(trainer.default_root_dir)
    page = folder if folder.suffix == ".html" else folder / "report.html"
    name = _data_name(data)
    results = record_test(trainer, module, data, name, Path(checkpoint) if checkpoint else None)
    return write_report(page, f"Test of {name}", results)


def write_report(page: Path, title: str, results: Sequence[DetectorResult], introduction: str = "") -> Path:
    """Writes the report of one or several detectors, and returns its path."""
    environment = Environment(loader=PackageLoader("vtadl.report"), autoescape=True, trim_blocks=True)
    environment.filters["data_uri"] = jpeg_data_uri
    text = environment.get_template("report.html").render(
        title=title,
        introduction=introduction,
        labels={
            name: label
            for name, label in METRIC_LABELS.items()
            if any(name in result.evaluation.metrics for result in results)
        },
        sections=[_section(result) for result in results],
        means=mean_metrics(result.evaluation for result in results),
        versions=_versions(),
        date=time.strftime("%Y-%m-%d %H:%M"),
    )
    with atomic_path(page) as path:
        path.write_text(text, encoding="utf-8")
    return page


def _section(result: DetectorResult) -> dict[str, Any]:
    recording = result.recording
    return {
        "result": result,
        "curves": curve_plots(result.evaluation.curves),
        "histogram": histogram_plot(recording.scores, recording.labels),
        "root": _common_folder(recording),
        "history": history_plots(result.history),
        "settings": yaml.safe_dump(_to_yaml_types(result.settings), sort_keys=False),
    }


def _common_folder(recording: Recording) -> str:
    """Returns the folder with which the names of all examples begin."""
    names = [example.name for group in recording.examples.values() for example in group]
    folder = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    return f"{folder}/" if folder else ""


def _data_settings(data: L.LightningDataModule) -> dict[str, Any]:
    public = {
        name: value for name, value in vars(data).items() if not name.startswith(("_", "prepare", "allow"))
    }
    simple = (str, int, float, bool, Path, tuple, list, dict, type(None))
    return {"class": type(data).__name__} | {name: x for name, x in public.items() if isinstance(x, simple)}


def _to_yaml_types(value: Any) -> Any:
    """Converts a value to types that YAML can represent."""
    if isinstance(value, dict):
        return {str(name): _to_yaml_types(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_yaml_types(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _data_name(data: Any) -> str:
    root = getattr(data, "root", None)
    return Path(root).name if root else getattr(data, "texture", type(data).__name__)


def _versions() -> dict[str, str]:
    versions = {"Python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions | {"CPU capability": str(build_info().get("cpu_capability", ""))}
