"""Types of the public interface, which the operators and the reference share."""

from typing import NamedTuple

from torch import Tensor


class ReconstructionTerms(NamedTuple):
    """The unweighted terms of :func:`vtadl_ext.reconstruction_loss`: scalars without gradients."""

    mse: Tensor
    l1: Tensor
    ssim: Tensor
