"""The training loss: likelihood of the patches and fidelity of the reconstruction."""

from typing import NamedTuple

from torch import Tensor, nn

from vtadl.common.precision import in_full_precision
from vtadl.model.vtadl import Prediction
from vtadl_ext import reconstruction_loss


class LossTerms(NamedTuple):
    """The loss and what it is made of, each a scalar; only `total` has gradients."""

    total: Tensor
    nll: Tensor
    mse: Tensor
    ssim: Tensor


class VTADLLoss(nn.Module):
    """NLL + mse_weight * MSE + ssim_weight * (1 - SSIM), the NLL in nats per patch."""

    def __init__(self, mse_weight: float = 5.0, ssim_weight: float = 0.5) -> None:
        """Sets the weights.

        Args:
            mse_weight: Weight of the mean squared error.
            ssim_weight: Weight of the structural dissimilarity.
        """
        super().__init__()
        self.mse_weight = mse_weight
        self.ssim_weight = ssim_weight

    @in_full_precision
    def forward(self, images: Tensor, prediction: Prediction) -> LossTerms:
        """Loss of a batch of images [B, 3, H, W] in [0, 1], which have been reconstructed."""
        assert prediction.reconstruction is not None
        nll = prediction.mixture.nll(prediction.features)
        fidelity, terms = reconstruction_loss(
            images.to(prediction.reconstruction.dtype),
            prediction.reconstruction,
            mse=self.mse_weight,
            ssim=self.ssim_weight,
            return_terms=True,
        )
        return LossTerms(nll + fidelity, nll.detach(), terms.mse, terms.ssim)
