"""The record of the images that a run was trained and validated with."""

import json
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from vtadl.common.files import atomic_path
from vtadl.data import ImageDataModule
from vtadl.data.manifest import Manifest, require_unchanged
from vtadl.errors import InputError
from vtadl.lightning_module import saved_resize_mode


class TrainingImages(Callback):
    """Writes the list of training and validation images to a file, and stores it in the checkpoint.

    A run can only be resumed with the same images in the same split. With another split it would be validated
    with images that it was trained with.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: Manifest | None = None

    def state_dict(self) -> dict[str, Any]:
        return {} if self.manifest is None else self.manifest.as_dict()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and isinstance(data, ImageDataModule):
            self.manifest = data.manifest()

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, ImageDataModule):
            require_same_images(data, checkpoint, str(self.path.parent))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.manifest is not None and trainer.is_global_zero:
            with atomic_path(self.path) as path:
                path.write_text(json.dumps(self.manifest.as_dict(), indent=1) + "\n", encoding="utf-8")


def require_same_images(data: ImageDataModule, checkpoint: dict[str, Any], run: str) -> None:
    """Checks that the data are those that the run of a checkpoint was trained and validated with.

    Raises:
        InputError: If the images, their split or their `resize_mode` have changed, or the checkpoint does not
            list the images.
    """
    before = saved_resize_mode(checkpoint)
    mode = getattr(data, "resize_mode", before)
    if before is not None and mode != before:
        raise InputError(
            f"{run} was trained with resize_mode={before}, but resize_mode is {mode} now; restore it, or "
            "train a new run with another --output"
        )
    saved, now = checkpoint.get("callbacks", {}).get("TrainingImages"), data.manifest()
    if saved:
        require_unchanged(Manifest.from_dict(saved), now or Manifest(type(data).__name__, []), run)
    elif now is not None:
        raise InputError(
            f"{run} does not list its training images, so that they cannot be kept out of validation; train "
            "a new run with another --output"
        )
