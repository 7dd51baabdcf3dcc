"""`vtadl predict`: scores and anomaly maps for a folder of images."""

import csv
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter, RichProgressBar
from PIL import Image
from torch.utils.data import DataLoader

from vtadl.data import ImageFolder
from vtadl.files import atomic_path
from vtadl.pictures import map_picture
from vtadl.training import load_detector


class PredictionWriter(BasePredictionWriter):
    """Writes `scores.csv`, and a picture of each map below `maps` at the path of its image."""

    def __init__(self, output: Path) -> None:
        super().__init__(write_interval="batch")
        self.output = output
        self.rows: list[tuple[str, float]] = []

    def write_on_batch_end(
        self, trainer: Any, pl_module: Any, prediction: Any, batch_indices: Any, batch: Any, *indices: int
    ) -> None:
        for name, score, anomaly_map in zip(batch["name"], prediction.image, prediction.map, strict=True):
            self.rows.append((name, score.item()))
            with atomic_path(self.output / "maps" / f"{name}.png") as path:
                Image.fromarray(map_picture(anomaly_map)).save(path)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with atomic_path(self.output / "scores.csv") as path, path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "score"])
            writer.writerows(self.rows)


def predict(
    checkpoint: str, images: str, output: str, batch_size: int = 16, accelerator: str = "auto"
) -> None:
    """Scores every image below a folder and pictures where it is anomalous.

    Args:
        checkpoint: Checkpoint of a trained detector.
        images: Folder of png, jpg, jpeg or bmp images.
        output: Folder to write scores.csv and maps/ to; the larger a score, the more anomalous.
        batch_size: Images scored at once.
        accelerator: Where to run: auto, cpu, gpu.
    """
    detector = load_detector(checkpoint)
    dataset = ImageFolder(Path(images), detector.network.image_size)
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        logger=False,
        callbacks=[RichProgressBar(), PredictionWriter(Path(output))],
    )
    trainer.predict(detector, DataLoader(dataset, batch_size), return_predictions=False)
    print(f"scores of {len(dataset)} images: {Path(output) / 'scores.csv'}")
    print(f"anomaly maps: {Path(output) / 'maps'}")
