"""Fused Gaussian-mixture likelihood and SSIM for PyTorch."""

try:
    from torch.torch_version import __version__ as torch_version
except ModuleNotFoundError as error:
    raise ImportError("vtadl_ext needs PyTorch 2.10 or newer: pip install torch") from error
if torch_version < "2.10":
    raise ImportError(f"vtadl_ext needs PyTorch 2.10 or newer, but this is {torch_version}: upgrade torch")

from vtadl_ext import reference
from vtadl_ext._binary import build_info, use_reference
from vtadl_ext._types import ReconstructionTerms
from vtadl_ext.gmm import GMMNLLLoss, gmm_log_prob, gmm_nll, gmm_responsibilities, gmm_sample
from vtadl_ext.linear_gmm import linear_gmm_nll
from vtadl_ext.mixture_head import MixtureHead
from vtadl_ext.multi_scale import ms_ssim
from vtadl_ext.reconstruction import reconstruction_loss
from vtadl_ext.ssim import SSIMLoss, ssim

__all__ = [
    "GMMNLLLoss",
    "MixtureHead",
    "ReconstructionTerms",
    "SSIMLoss",
    "build_info",
    "gmm_log_prob",
    "gmm_nll",
    "gmm_responsibilities",
    "gmm_sample",
    "linear_gmm_nll",
    "ms_ssim",
    "reconstruction_loss",
    "reference",
    "ssim",
    "use_reference",
]
