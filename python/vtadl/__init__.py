"""VT-ADL, an image anomaly detector built on the operators of vtadl_ext.

Each of these parts imports only parts below it:

    cli                the commands
    report             the HTML report of a test
    training           the trainer and its callbacks
    detector           a trained detector in Python
    checkpoints        files of trained detectors
    lightning_module   training and evaluation of the detector
    one_step           Lightning's hooks of a detector that trains nothing
    tuning             the choice of a density's settings, and its fit
    settings           the settings of the detector, in groups
    scoring            scores, maps and thresholds
    model              the network, its loss and its optimiser
    density            the density of patches: principal components, mixtures
    features           features of patches: windows, local energies, frozen networks
    synthesis          synthetic textures, backgrounds and anomalies
    metrics            metrics of a test, and their confidence intervals
    data               image files and data sets
    images             pixels, sizes, tiles and filters
    common             precision, ranges of numbers, files, progress
    errors             the errors of this package
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
