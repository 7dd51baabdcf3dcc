"""The Lightning trainer that `vtadl fit`, `vtadl demo` and `vtadl reproduce` share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import CheckpointIO, LayerSync
from lightning.pytorch.plugins.io import TorchCheckpointIO

from vtadl.common.files import atomic_path
from vtadl.training.callbacks import training_callbacks
from vtadl.training.distributed import SyncBatchNormPlugin

GRADIENT_CLIP = 1.0  # largest norm of the gradients


def make_trainer(
    folder: Path,
    trainer_class: Callable[..., L.Trainer] = L.Trainer,
    patience: int | None = None,
    callbacks: Sequence[Callback] = (),
    plugins: Any = None,
    **options: Any,
) -> L.Trainer:
    """Makes a trainer that writes its run to a folder.

    Args:
        folder: Folder of checkpoints and metrics; see :func:`training_callbacks`.
        trainer_class: Lightning's trainer, or a subclass of it.
        patience: Number of validations without a smaller loss after which training stops; None for no limit.
        callbacks: Additional callbacks.
        plugins: Additional plugins. They replace the default plugins of the same type.
        options: Other arguments of `trainer_class`.
    """
    return trainer_class(
        callbacks=[*training_callbacks(folder, patience), *callbacks],
        plugins=_with_default_plugins(plugins),
        **{"gradient_clip_val": GRADIENT_CLIP} | options,
    )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file in its final folder, and then renames that file.

    Lightning's own plugin writes to the system's temporary folder. If that is on another disk, the move to
    the final folder is a copy, which can be interrupted.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


def _with_default_plugins(plugins: Any) -> list[Any]:
    """Adds the default plugin of each type that is not among the given ones."""
    given = list(plugins) if isinstance(plugins, (list, tuple)) else [plugins] if plugins else []
    defaults = {CheckpointIO: AtomicCheckpointIO, LayerSync: SyncBatchNormPlugin}
    return given + [make() for kind, make in defaults.items() if not any(isinstance(p, kind) for p in given)]
