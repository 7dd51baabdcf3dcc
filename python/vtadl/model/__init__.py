"""The VT-ADL network and its loss."""

from vtadl.model.dictionary import Background, Descriptor, Dictionary, DictionarySettings, Positions
from vtadl.model.loss import LossTerms, VTADLLoss
from vtadl.model.mixture import Mixture, PredictedMixture
from vtadl.model.vtadl import VTADL, Likelihood, Prediction, as_pair

__all__ = [
    "VTADL",
    "Background",
    "Descriptor",
    "Dictionary",
    "DictionarySettings",
    "Likelihood",
    "LossTerms",
    "Mixture",
    "Positions",
    "PredictedMixture",
    "Prediction",
    "VTADLLoss",
    "as_pair",
]
