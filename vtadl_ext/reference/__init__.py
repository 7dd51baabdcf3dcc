"""The operators in plain PyTorch: the oracle of the tests, and the path of devices without kernels.

Each function is the shortest correct statement of its formula, with the signature of the operator of
the same name; the options are explained there.
"""

from vtadl_ext.reference.gmm import gmm_log_prob, gmm_nll, gmm_responsibilities, gmm_sample
from vtadl_ext.reference.linear_gmm import linear_gmm_nll
from vtadl_ext.reference.ssim import ReconstructionTerms, ms_ssim, reconstruction_loss, ssim

__all__ = [
    "ReconstructionTerms",
    "gmm_log_prob",
    "gmm_nll",
    "gmm_responsibilities",
    "gmm_sample",
    "linear_gmm_nll",
    "ms_ssim",
    "reconstruction_loss",
    "ssim",
]
