"""The VT-ADL network, its loss and its optimiser."""

from vtadl.model.loss import LossSettings, LossTerms, VTADLLoss
from vtadl.model.optimizer import OptimizerSettings
from vtadl.model.settings import NetworkSettings
from vtadl.model.vtadl import VTADL, Prediction

__all__ = [
    "VTADL",
    "LossSettings",
    "LossTerms",
    "NetworkSettings",
    "OptimizerSettings",
    "Prediction",
    "VTADLLoss",
]
