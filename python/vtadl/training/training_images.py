"""What a run remembers of its data: where they are, and which images it was trained and validated with."""

import json
import os
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from vtadl.common.files import absolute_path, atomic_path
from vtadl.data import ImageDataModule
from vtadl.data.manifest import Manifest, require_unchanged
from vtadl.errors import InputError
from vtadl.lightning_module import saved_resize_mode


class TrainingImages(Callback):
    """Writes which images a run is trained and validated with, and keeps it in the checkpoint.

    A run does not go on with other images, nor with the same in other parts: validation would then be with
    what it was trained with.
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
    """Raises InputError if the data are not what the run of a checkpoint was trained and validated with."""
    before = saved_resize_mode(checkpoint)
    mode = getattr(data, "resize_mode", before)
    if before is not None and mode != before:
        raise InputError(
            f"{run} saw its images with resize_mode={before}, not {mode}; leave it as it was, or train anew "
            "with another --output"
        )
    kept, now = checkpoint.get("callbacks", {}).get("TrainingImages"), data.manifest()
    if kept:
        require_unchanged(Manifest.from_dict(kept), now or Manifest(type(data).__name__, []), run)
    elif now is not None:
        raise InputError(
            f"{run} does not say which images it was trained with, so that they cannot be kept out of the "
            "validation: train anew, with another --output"
        )


def remember_places(settings: Any) -> None:
    """Makes the paths in the settings of a run absolute, so that it can be tested from any folder.

    A checkpoint of the run itself is no setting: the run is resumed from it, and another is not.
    """
    for name in ("output", "ckpt_path"):
        if settings.get(name) is not None:
            settings[name] = absolute_path(settings[name])
    if settings.get("ckpt_path") and os.path.dirname(settings.ckpt_path) == settings.output:
        settings.ckpt_path = None
    if _root(settings) is not None:
        settings.data.init_args.root = absolute_path(_root(settings))


def require_place(settings: Any) -> None:
    """Raises InputError if the data of a run have moved."""
    root = _root(settings)
    if root is not None and not os.path.isdir(os.path.expanduser(root)):
        raise InputError(
            f"there is no folder {root}; if the data have moved, say where by --data.root FOLDER"
        )


def _root(settings: Any) -> Any:
    return (settings.data.get("init_args") or {}).get("root")
