"""The VT-ADL network and its loss."""

from vtadl.model.loss import LossTerms, VTADLLoss
from vtadl.model.vtadl import VTADL, Likelihood, Prediction

__all__ = ["VTADL", "Likelihood", "LossTerms", "Prediction", "VTADLLoss"]
