"""The parts of a trainer that every command shares."""

import pickle
import zipfile
from pathlib import Path

from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar

from vtadl.engine import AnomalyDetector
from vtadl.errors import InputError


def training_callbacks(folder: Path | None = None) -> list[Callback]:
    """A progress bar, and the checkpoints `best.ckpt` (by validation loss) and `last.ckpt`.

    The checkpoints go to `folder`, or to the logger's.
    """
    best = ModelCheckpoint(folder, "best", monitor="val_loss", enable_version_counter=False)
    last = ModelCheckpoint(folder, "last", enable_version_counter=False)
    return [RichProgressBar(), best, last]


def require_checkpoint(path: str | Path) -> None:
    """Raises InputError unless `path` is a whole checkpoint file."""
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint {path}")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not a checkpoint, or is cut short")


def load_detector(path: str | Path) -> AnomalyDetector:
    """The trained detector of a checkpoint, in evaluation mode on the CPU.

    Raises:
        InputError: If the file is missing, or does not hold a detector.
    """
    require_checkpoint(path)
    try:
        return AnomalyDetector.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    except (KeyError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} does not hold a detector that this version can load") from error
