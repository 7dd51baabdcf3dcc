"""The density of patches: principal components of their features, and Gaussian mixtures."""

from vtadl.density.dictionary import Dictionary
from vtadl.density.mixture import Mixture, PredictedMixture
from vtadl.density.settings import (
    Background,
    DensitySettings,
    Descriptor,
    ExpertSettings,
    Likelihood,
    Positions,
)

__all__ = [
    "Background",
    "DensitySettings",
    "Descriptor",
    "Dictionary",
    "ExpertSettings",
    "Likelihood",
    "Mixture",
    "Positions",
    "PredictedMixture",
]
