"""VT-ADL, an image anomaly detector built on the operators of vtadl_ext.

Each of these parts imports only parts above it:

    errors             the errors of this package
    common             precision, ranges of numbers, files, progress
    images             pixels, sizes, tiles and filters
    data               image files and data sets
    metrics            metrics of a test, and their confidence intervals
    synthesis          synthetic textures, backgrounds and anomalies
    density            the density of patches: features, principal components, mixtures
    model              the network, its loss and its optimiser
    scoring            scores, maps and thresholds
    settings           the settings of the detector, in groups
    tuning             the choice of a density's settings, and its fit
    lightning_module   training and evaluation of the detector
    checkpoints        files of trained detectors
    detector           a trained detector in Python
    training           the trainer and its callbacks
    report             the HTML report of a test
    cli                the commands
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtadl.detector import Detection, Detector

__all__ = ["Detection", "Detector"]


def __getattr__(name: str) -> Any:
    """Imports public names on first access, so that `vtadl --help` does not import PyTorch."""
    if name in __all__:
        from vtadl import detector

        return getattr(detector, name)
    raise AttributeError(f"module 'vtadl' has no attribute {name!r}")
