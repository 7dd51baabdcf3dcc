"""The progress bar of `vtadl fit`, `vtadl demo` and the tests of detectors."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar


class DetectorProgressBar(RichProgressBar):
    """Lightning's progress bar, which shows no epochs of a detector that trains nothing."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if pl_module.trains:
            super().on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any) -> None:
        if pl_module.trains:
            super().on_train_batch_end(trainer, pl_module, *arguments)
