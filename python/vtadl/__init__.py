"""VT-ADL, an image anomaly detector built on the operators of vtadl_ext."""

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
