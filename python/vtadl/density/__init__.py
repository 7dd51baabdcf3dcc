"""The mixture of patches: features, their principal components, and the dictionary fitted to them."""

from vtadl.density.dictionary import Background, Descriptor, Dictionary, DictionarySettings, Positions
from vtadl.density.mixture import Mixture, PredictedMixture

__all__ = [
    "Background",
    "Descriptor",
    "Dictionary",
    "DictionarySettings",
    "Mixture",
    "Positions",
    "PredictedMixture",
]
