"""What a run remembers of its data: where they are, and which images it was trained and validated with."""

import json
import os
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from vtadl.checkpoints import read_checkpoint
from vtadl.data import ImageDataModule
from vtadl.data.manifest import Manifest, require_unchanged
from vtadl.errors import InputError
from vtadl.files import atomic_path


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
        if stage != "fit" or not isinstance(data, ImageDataModule):
            return
        self.manifest = data.manifest()
        if trainer.ckpt_path is None:
            return
        checkpoint = Path(trainer.ckpt_path)
        before = trained_with(checkpoint)
        if before is not None:
            now = self.manifest or Manifest(type(data).__name__, [])
            require_unchanged(before, now, str(checkpoint.parent))
        elif self.manifest is not None:
            raise InputError(
                f"{checkpoint} does not say which images it was trained with, so that they cannot be "
                "kept out of the validation: train anew, with another --output"
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.manifest is not None and trainer.is_global_zero:
            with atomic_path(self.path) as path:
                path.write_text(json.dumps(self.manifest.as_dict(), indent=1) + "\n", encoding="utf-8")


def trained_with(checkpoint: Path) -> Manifest | None:
    """The images that the run of a checkpoint was trained and validated with, if it says so."""
    kept = read_checkpoint(checkpoint).get("callbacks", {}).get("TrainingImages")
    return Manifest.from_dict(kept) if kept else None


def remember_places(settings: Any) -> None:
    """Makes the paths in the settings of a run absolute, so that it can be tested from any folder."""
    for name in ("output", "ckpt_path"):
        if settings.get(name) is not None:
            settings[name] = _absolute(settings[name])
    if settings.data.init_args.get("root") is not None:
        settings.data.init_args.root = _absolute(settings.data.init_args.root)


def require_place(settings: Any) -> None:
    """Raises InputError if the data of a run have moved."""
    root = settings.data.init_args.get("root")
    if root is not None and not os.path.isdir(os.path.expanduser(root)):
        raise InputError(
            f"there is no folder {root}; if the data have moved, say where by --data.root FOLDER"
        )


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
