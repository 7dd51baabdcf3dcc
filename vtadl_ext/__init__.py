"""Fused Gaussian-mixture likelihood and SSIM for PyTorch."""

from vtadl_ext import reference
from vtadl_ext._ops import build_info
from vtadl_ext.gmm import gmm_nll
from vtadl_ext.ssim import ssim

__all__ = ["build_info", "gmm_nll", "reference", "ssim"]
