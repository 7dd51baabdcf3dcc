"""`vtadl demo`: detectors of the embedded textures, and a report about them."""

import json
import logging
import time
from pathlib import Path

import lightning as L

from vtadl.common.binomial import CONFIDENCE
from vtadl.common.files import atomic_path
from vtadl.common.ranges import require_positive
from vtadl.data import TEXTURES, Texture, TextureDefects
from vtadl.lightning_module import AnomalyDetector
from vtadl.model import NetworkSettings
from vtadl.report.page import DetectorResult, record_test, write_report
from vtadl.training.progress_bar import DetectorProgressBar
from vtadl.training.trainer import make_trainer

IMAGE_SIZE = 128  # pixels to which a crop is enlarged
_VAL_COUNT = 4  # crops that would be held out if a network were trained
INTRODUCTION = (
    "There is one detector for each texture. A photograph is cut into cells. The detector was fitted to some "
    "of them, chosen at random, and tested with others, each as it is and with a synthetic defect. Fitting "
    "and testing took {seconds:.0f} seconds."
)


def demo(
    output: str = "vtadl-demo",
    textures: list[Texture] = list(TEXTURES),  # noqa: B006
    epochs: int | None = None,
    train_count: int = 40,
    test_count: int = 48,
    seed: int = 0,
) -> None:
    """Fits and tests one detector per texture, and writes an HTML page with metrics and pictures.

    Args:
        output: Folder to write to, also given by `-o`.
        textures: Photographs to fit to: brick, grass, gravel.
        epochs: Number of passes over the training crops. It has no effect, because nothing is trained: the
            score is the likelihood of the dictionary alone.
        train_count: Number of normal crops of each texture for the fit; 5 or more.
        test_count: Number of test crops of each texture; every second one has a defect.
        seed: Seed of the crops, the defects and the fit.
    """
    require_positive(epochs=epochs)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    start, folder = time.perf_counter(), Path(output).expanduser()
    results = []
    for texture in textures:
        print(f"{texture}: fitting to {train_count} crops")
        L.seed_everything(seed, verbose=False)
        counts = {"train_count": train_count - _VAL_COUNT, "val_count": _VAL_COUNT, "test_count": test_count}
        data = TextureDefects(texture, IMAGE_SIZE, **counts, seed=seed)
        results.extend(fit_and_test(data, folder / "checkpoints" / texture))
    seconds = time.perf_counter() - start
    introduction = INTRODUCTION.format(seconds=seconds)
    page = write_report(folder / "index.html", "VT-ADL demo", results, introduction)
    metrics = {result.name: result.evaluation.metrics for result in results}
    with atomic_path(folder / "metrics.json") as path:
        path.write_text(json.dumps(metrics | {"seconds": round(seconds, 1)}, indent=2) + "\n")
    for result in results:
        print(
            f"{result.name}: " + ", ".join(f"{name} {x:.3f}" for name, x in result.evaluation.metrics.items())
        )
        detected, rate = result.evaluation.detected, result.thresholds["image"]["false_alarm_rate"]
        print(
            f"{result.name}: {detected['false_alarms']} of {detected['normal']} normal crops are false "
            f"alarms; at most {rate:.1%} were to be expected, with {CONFIDENCE:.0%} confidence"
        )
    print(f"report: {page}")


def fit_and_test(data: TextureDefects, folder: Path) -> list[DetectorResult]:
    """Fits a detector, writes its checkpoints to a folder, and tests the best one."""
    trainer = make_trainer(
        folder,
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[DetectorProgressBar()],
    )
    detector = AnomalyDetector(network=NetworkSettings(image_size=data.image_size))
    trainer.fit(detector, data)
    return record_test(trainer, detector, data, data.texture, folder / "best.ckpt")
