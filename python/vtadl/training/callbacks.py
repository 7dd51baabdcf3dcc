"""The parts of a trainer that every command shares."""

import random
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor

from vtadl.errors import DivergenceError
from vtadl.scoring.thresholds import Calibration
from vtadl.training.history import History
from vtadl.training.training_images import TrainingImages


class EpochSeed(Callback):
    """Draws the random numbers of an epoch from the seed and the epoch's number alone.

    A resumed run so goes on with the same numbers as one that was never stopped.
    """

    def __init__(self) -> None:
        self.seed = 0
        self._resumed = False

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seed = state_dict["seed"]
        self._resumed = True

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.seed = torch.initial_seed()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        entropy = [self.seed, trainer.current_epoch, trainer.global_rank]
        (seed,) = np.random.SeedSequence(entropy).generate_state(1).tolist()
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        if self._resumed:  # Lightning has fetched a batch before it knew the epoch
            iter(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
            self._resumed = False


class Throughput(Callback):
    """Logs the images that training takes in per second, over all processes and without validation."""

    def __init__(self) -> None:
        self.start = 0.0
        self.images = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start, self.images = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch["image"]) * trainer.world_size
        rate = self.images / (time.perf_counter() - self.start)
        pl_module.log("images_per_second", rate, prog_bar=True, batch_size=1)


class LastValidation(Callback):
    """Validates at the end of a training whose settings would end it without.

    What validation takes, thresholds above all, belongs to the weights that it saw.
    """

    def __init__(self) -> None:
        self._trained = False  # since the latest validation

    def on_train_batch_end(self, *arguments: Any) -> None:
        self._trained = True

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trained = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not (self._trained and trainer.fit_loop.done):
            return
        limit = trainer.limit_val_batches
        trainer.limit_val_batches = limit or 1.0
        trainer.validating = True  # as Lightning's own loop does between two batches
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True
        trainer.limit_val_batches = limit


class FiniteWeights(Callback):
    """Keeps weights and thresholds that are no numbers out of checkpoints: the last one stays good."""

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        kept: dict[str, Tensor] = {
            f"weights {name}": parameter for name, parameter in pl_module.named_parameters()
        }
        calibration = pl_module.calibration
        if isinstance(calibration, Calibration) and calibration.image.count:  # has been validated
            kept |= {f"thresholds {name}": value for name, value in calibration.named_buffers()}
        for name, value in kept.items():
            if not torch.isfinite(value).all():
                raise DivergenceError(f"after epoch {trainer.current_epoch} the {name} are not finite")


def training_callbacks(folder: Path, patience: int | None = None) -> list[Callback]:
    """What every training needs but a progress bar.

    Args:
        folder: Where `best.ckpt` (by validation loss) goes after a validation, `last.ckpt` and `metrics.csv`
            after each epoch, and `data.json`, which lists the images, at the start.
        patience: After how many validations without a smaller loss to stop; None for never.
    """

    def checkpoint(name: str, monitor: str | None = None) -> ModelCheckpoint:
        return ModelCheckpoint(
            folder,
            name,
            monitor=monitor,
            enable_version_counter=False,
            save_on_train_epoch_end=monitor is None,
        )

    stopping = EarlyStopping(
        "val_loss", patience=patience or 0, check_finite=False, check_on_train_epoch_end=False
    )
    return [
        EpochSeed(),
        Throughput(),
        LastValidation(),
        History(folder / "metrics.csv"),
        TrainingImages(folder / "data.json"),
        FiniteWeights(),
        *([] if patience is None else [stopping]),
        checkpoint("best", monitor="val_loss"),
        checkpoint("last"),
    ]
