"""Checkpoint files of trained detectors."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vtadl.errors import InputError
from vtadl.lightning_module import AnomalyDetector
from vtadl.scoring.settings import TERMS, ScoringSettings
from vtadl.settings import group_settings, make_settings


def find_checkpoint(path: str | Path) -> Path:
    """Finds a checkpoint file; for the folder of a run, the best one in it.

    Raises:
        InputError: If there is no checkpoint, or the file is truncated.
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        path = path / "best.ckpt"
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not a checkpoint, or is cut short")
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint file without executing any code of it.

    Raises:
        InputError: If it is not the checkpoint of a detector, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load() does not check the bytes of weights
        checkpoint = {} if damaged else torch.load(path, map_location="cpu", weights_only=True)
        holds_detector = set(checkpoint) >= {"state_dict", "hyper_parameters", "pytorch-lightning_version"}
    except Exception as error:  # a malicious pickle fails in many ways
        raise InputError(f"{path} cannot be read as a checkpoint") from error
    if damaged:
        raise InputError(f"{path} is damaged: {damaged} is not what was written")
    if not holds_detector:
        raise InputError(f"{path} does not hold a detector")
    return checkpoint


def saved_settings(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a checkpoint's detector in their groups, without what Lightning adds.

    In earlier versions, training decided about a gate and the terms of the score if these settings were null
    (None). The state of the checkpoint tells what was decided.

    Raises:
        InputError: If the value of a group is not settings by name.
    """
    settings = group_settings(checkpoint["hyper_parameters"])
    settings.pop("_instantiator", None)
    state = checkpoint["state_dict"]
    gate = state.get("network.gate.loadings")
    if gate is not None and gate.numel() > 0:
        settings.setdefault("density", {})["gated"] = True
    if _describes_a_backbone_alone(checkpoint, settings):
        settings["density"]["descriptor"] = "backbone"
    scoring = settings.setdefault("scoring", {})
    if scoring.get("terms") is None and "scorer.weights" in state:
        used = tuple(term for term, weight in zip(TERMS, state["scorer.weights"], strict=True) if weight)
        likelihood = settings.get("density", {}).get("likelihood", "dictionary")
        scoring["terms"] = None if used == ScoringSettings().terms_with(likelihood) else used
    return settings


def _describes_a_backbone_alone(checkpoint: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of an earlier version, in which a backbone had no other expert beside it."""
    descriptors = checkpoint["state_dict"].get("network.dictionary._extra_state")
    has_backbone = settings.get("density", {}).get("backbone") is not None
    return has_backbone and descriptors is not None and descriptors.dim() == 0


def require_known_settings(path: Path) -> None:
    """Raises InputError if a checkpoint cannot be read, or this version does not have one of its settings."""
    checkpoint = read_checkpoint(path)
    try:
        make_settings(saved_settings(checkpoint))
    except (AttributeError, TypeError, ValueError) as error:
        raise cannot_load(path, error) from error


def cannot_load(path: str | Path, cause: Exception) -> InputError:
    """The error that this version cannot load the detector of a checkpoint."""
    reason = f": {cause}" if isinstance(cause, InputError) else ""
    return InputError(f"{path} does not hold a detector that this version can load{reason}")


def load_detector(path: str | Path) -> AnomalyDetector:
    """Loads the trained detector of a checkpoint or of a run's folder, in evaluation mode on the CPU.

    Raises:
        InputError: If the file is missing, or does not hold a detector.
    """
    path = find_checkpoint(path)
    checkpoint = read_checkpoint(path)
    try:
        detector = AnomalyDetector.from_settings(**saved_settings(checkpoint))
        detector.on_load_checkpoint(checkpoint)
        detector.load_state_dict(checkpoint["state_dict"])
        return detector.eval()
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise cannot_load(path, error) from error
