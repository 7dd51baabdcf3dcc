from vtadl_ext import reference
from vtadl_ext.reference import gmm_nll, ssim  # TEMPORARY until the binary exists

__all__ = ["gmm_nll", "reference", "ssim"]
