"""VT-ADL, an image anomaly detector built on the operators of vtadl_ext.

Each of these imports only what stands above it:

    errors             what can go wrong, by who has to act
    common             precision, ranges of numbers, files, progress
    images             images as numbers: pixels, tiles, filters
    data               image files and data sets
    metrics            figures of a test, and their intervals
    synthesis          images that are made: textures, backgrounds, anomalies
    density            the mixture of patches: features, principal components, dictionary
    model              the network and its loss
    scoring            scores, maps and thresholds
    settings           the settings of the detector, in groups
    tuning             the choice of a density's settings, and its fit
    lightning_module   training and evaluation of the detector
    checkpoints        files of trained detectors
    detector           a trained detector in Python
    training           the trainer and its callbacks
    report             the page about a test
    cli                the commands
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtadl.detector import Detection, Detector

__all__ = ["Detection", "Detector"]


def __getattr__(name: str) -> Any:
    """Imports what a user asks for only then: `vtadl --help` needs no PyTorch."""
    if name in __all__:
        from vtadl import detector

        return getattr(detector, name)
    raise AttributeError(f"module 'vtadl' has no attribute {name!r}")
