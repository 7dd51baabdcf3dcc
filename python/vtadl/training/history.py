"""The metrics of each epoch of a training."""

import csv
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from vtadl.checkpoints import read_checkpoint
from vtadl.common.files import atomic_path


class History(Callback):
    """Writes one row per epoch to a CSV file, and stores the rows in the checkpoint.

    A detector that trains nothing has one row, without a learning rate.

    When a run is resumed, the file holds the rows of the checkpoint, followed by those of the new epochs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = {name: value.item() for name, value in sorted(trainer.callback_metrics.items())}
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        if pl_module.trains:
            row["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append(row | metrics)
        if trainer.is_global_zero:
            with atomic_path(self.path) as path, path.open("w", newline="") as file:
                writer = csv.DictWriter(file, dict.fromkeys(name for row in self.rows for name in row))
                writer.writeheader()
                writer.writerows(self.rows)


def read_history(checkpoint: Path) -> list[dict[str, float]]:
    """Reads one row per epoch of the run that a checkpoint belongs to.

    The rows are those of `last.ckpt` in the same folder if it exists, otherwise those of the checkpoint.

    Raises:
        InputError: If the checkpoint cannot be read.
    """
    last = checkpoint.parent / "last.ckpt"
    saved = read_checkpoint(last if last.exists() else checkpoint)
    rows: list[dict[str, float]] = saved.get("callbacks", {}).get("History", {}).get("rows", [])
    return rows
