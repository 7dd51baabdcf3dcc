"""The Lightning trainer of every training: of `vtadl fit`, `demo` and `reproduce`."""

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
from vtadl.training.distributed import SyncBatchNorm

GRADIENT_CLIP = 1.0  # largest norm of the gradients


def make_trainer(
    folder: Path,
    trainer_class: Callable[..., L.Trainer] = L.Trainer,
    patience: int | None = None,
    callbacks: Sequence[Callback] = (),
    plugins: Any = None,
    **options: Any,
) -> L.Trainer:
    """A trainer that keeps its run in a folder.

    Args:
        folder: Where checkpoints and figures go, see :func:`training_callbacks`.
        trainer_class: Lightning's trainer, or one derived from it.
        patience: After how many validations without a smaller loss to stop; None for never.
        callbacks: Further callbacks.
        plugins: Further plugins; they replace this package's own of the same kind.
        options: What else the trainer takes.
    """
    return trainer_class(
        callbacks=[*training_callbacks(folder, patience), *callbacks],
        plugins=_with_own_plugins(plugins),
        **{"gradient_clip_val": GRADIENT_CLIP} | options,
    )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Saves a checkpoint beside its final place first.

    Lightning's own writes to the system's temporary folder, from which a move to another disk is a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


def _with_own_plugins(plugins: Any) -> list[Any]:
    """The given plugins, and this package's own of each kind that is not given."""
    given = list(plugins) if isinstance(plugins, (list, tuple)) else [plugins] if plugins else []
    kinds = {CheckpointIO: AtomicCheckpointIO, LayerSync: SyncBatchNorm}
    return given + [own() for kind, own in kinds.items() if not any(isinstance(p, kind) for p in given)]
