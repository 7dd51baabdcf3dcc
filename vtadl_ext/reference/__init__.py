"""The operators in plain PyTorch: the oracle of the tests, and the fallback of devices without kernels.

Each function is the shortest correct statement of its formula. It has the signature of the operator of the
same name, which explains the options. Nothing here imports other modules of vtadl_ext but types: a mistake
in those would not show in a comparison.
"""

from vtadl_ext._types import ReconstructionTerms
from vtadl_ext.reference.gmm import gmm_log_prob, gmm_nll, gmm_responsibilities, gmm_sample
from vtadl_ext.reference.linear_gmm import linear_gmm_nll
from vtadl_ext.reference.ssim import ms_ssim, reconstruction_loss, ssim

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
