"""The callbacks of every training."""

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
    """Seeds the random number generators at the start of each epoch.

    The seed of an epoch depends only on the seed of the run, the epoch and the rank. A resumed run therefore
    draws the same numbers as a run that was not interrupted.
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
        if self._resumed:  # Lightning fetched a batch before it restored the epoch
            iter(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
            self._resumed = False


class Throughput(Callback):
    """Logs `images_per_second`: training images of all processes per second, without validation.

    Nothing is logged if the detector trains nothing.
    """

    def __init__(self) -> None:
        self.start = 0.0
        self.images = 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start, self.images = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not pl_module.trains:
            return
        self.images += len(batch["image"]) * trainer.world_size
        rate = self.images / (time.perf_counter() - self.start)
        pl_module.log("images_per_second", rate, prog_bar=True, batch_size=1)


class FinalValidation(Callback):
    """Runs a validation at the end of training if the last weights have not been validated yet.

    Thresholds are estimated by validation, and are valid only for the weights that were validated.
    """

    def __init__(self) -> None:
        self._is_stale = False  # whether the weights have changed since the latest validation

    def on_train_batch_end(self, *arguments: Any) -> None:
        self._is_stale = True

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._is_stale = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not (self._is_stale and trainer.fit_loop.done):
            return
        limit = trainer.limit_val_batches
        trainer.limit_val_batches = limit or 1.0
        trainer.validating = True  # Lightning's own loop does the same between two batches
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True
        trainer.limit_val_batches = limit


class FiniteWeights(Callback):
    """Refuses to save NaN or infinite weights and thresholds, so that the last checkpoint stays usable.

    Raises:
        DivergenceError: If a weight or a threshold is not finite.
    """

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        saved: dict[str, Tensor] = {
            f"weights {name}": parameter for name, parameter in pl_module.named_parameters()
        }
        calibration = pl_module.calibration
        if isinstance(calibration, Calibration) and calibration.image.count:  # 0 before any validation
            saved |= {f"thresholds {name}": value for name, value in calibration.named_buffers()}
        for name, value in saved.items():
            if not torch.isfinite(value).all():
                raise DivergenceError(f"after epoch {trainer.current_epoch} the {name} are not finite")


def training_callbacks(folder: Path, patience: int | None = None) -> list[Callback]:
    """Makes the callbacks of every training; a progress bar is not among them.

    Args:
        folder: Folder of the run. `data.json`, which lists the images, is written there at the start;
            `last.ckpt` and `metrics.csv` after each epoch; and `best.ckpt` after a validation whose loss is
            the smallest so far.
        patience: Number of validations without a smaller loss after which training stops; None for no limit.
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
        FinalValidation(),
        History(folder / "metrics.csv"),
        TrainingImages(folder / "data.json"),
        FiniteWeights(),
        *([] if patience is None else [stopping]),
        checkpoint("best", monitor="val_loss"),
        checkpoint("last"),
    ]
