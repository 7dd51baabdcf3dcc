"""The VT-ADL network and its loss."""

from vtadl.model.loss import LossTerms, VTADLLoss
from vtadl.model.mixture import Mixture
from vtadl.model.vtadl import VTADL, Prediction, as_pair

__all__ = ["VTADL", "LossTerms", "Mixture", "Prediction", "VTADLLoss", "as_pair"]
