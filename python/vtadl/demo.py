"""`vtadl demo`: trains on the embedded textures and writes a report."""

import logging
import time
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from vtadl.data import TEXTURES, Texture, TextureDefects
from vtadl.engine import AnomalyDetector
from vtadl.files import AtomicCheckpointIO
from vtadl.report import Example, TextureResult, write_report
from vtadl.training import load_detector, training_callbacks


class LossHistory(Callback):
    """Collects the training and validation loss of each epoch."""

    def __init__(self) -> None:
        self.losses: dict[str, list[float]] = {"training": [], "validation": []}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name, metric in (("training", "train_loss"), ("validation", "val_loss")):
            self.losses[name].append(trainer.callback_metrics[metric].item())


def demo(
    output: str = "vtadl-demo",
    textures: list[Texture] = list(TEXTURES),  # noqa: B006
    epochs: int = 4,
    train_count: int = 1024,
    test_count: int = 120,
    seed: int = 0,
) -> None:
    """Trains one detector per texture, tests it, and writes a page with figures and pictures.

    Args:
        output: Folder to write to.
        textures: Photographs to train on: brick, grass, gravel.
        epochs: Passes over the training crops.
        train_count: Training crops of a texture.
        test_count: Test crops of a texture; every second one has a defect.
        seed: Seed of the crops, the defects and the training.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    start, folder = time.perf_counter(), Path(output)
    results = []
    for texture in textures:
        print(f"{texture}: training on {train_count} crops, {epochs} epochs")
        L.seed_everything(seed, verbose=False)
        data = TextureDefects(texture, train_count=train_count, test_count=test_count, seed=seed)
        results.append(_train_and_test(data, epochs, folder / "checkpoints" / texture))
    page = write_report(folder, results, time.perf_counter() - start)
    for result in results:
        print(f"{result.texture}: " + ", ".join(f"{name} {x:.3f}" for name, x in result.metrics.items()))
    print(f"report: {page}")


def _train_and_test(data: TextureDefects, epochs: int, folder: Path) -> TextureResult:
    history = LossHistory()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        gradient_clip_val=1.0,
        logger=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[*training_callbacks(folder), history],
        plugins=[AtomicCheckpointIO()],
    )
    trainer.fit(AnomalyDetector(image_size=data.image_size), data)
    detector = load_detector(folder / "best.ckpt")
    (metrics,) = trainer.test(detector, data, verbose=False)
    return TextureResult(data.texture, dict(metrics), history.losses, _examples(detector, data))


def _examples(detector: AnomalyDetector, data: TextureDefects, count: int = 8) -> list[Example]:
    """The first test images: normal ones, and two of each kind of defect."""
    samples = sorted((data.test_set[index] for index in range(12)), key=lambda sample: int(sample["label"]))[
        4:
    ]
    with torch.inference_mode():
        scores = detector(torch.stack([sample["image"] for sample in samples]))
    return [
        Example(f"{sample['name'].split('/')[2]}  {score.item():.1f}", sample["image"], sample["mask"], map_)
        for sample, score, map_ in zip(samples, scores.image, scores.map, strict=True)
    ]
