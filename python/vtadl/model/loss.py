"""The training loss: likelihood of the patches and fidelity of the reconstruction."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from vtadl.common.precision import in_full_precision
from vtadl.common.ranges import require_not_negative
from vtadl.model.vtadl import Prediction
from vtadl_ext import reconstruction_loss


class LossTerms(NamedTuple):
    """The loss and its terms, each a scalar; only `total` has gradients."""

    total: Tensor
    nll: Tensor
    mse: Tensor
    ssim: Tensor


@dataclass(frozen=True)
class LossSettings:
    """The weights of the loss.

    Args:
        mse_weight: Weight of the mean squared error.
        ssim_weight: Weight of the structural dissimilarity, 1 - SSIM.

    Raises:
        InputError: If a weight is negative.
    """

    mse_weight: float = 5.0
    ssim_weight: float = 0.5

    def __post_init__(self) -> None:
        require_not_negative(mse_weight=self.mse_weight, ssim_weight=self.ssim_weight)


class VTADLLoss(nn.Module):
    """NLL + mse_weight * MSE + ssim_weight * (1 - SSIM), the NLL in nats per patch."""

    def __init__(self, settings: LossSettings = LossSettings()) -> None:
        super().__init__()
        self.mse_weight = settings.mse_weight
        self.ssim_weight = settings.ssim_weight

    @in_full_precision
    def forward(self, images: Tensor, prediction: Prediction) -> LossTerms:
        """Computes the loss of a batch of images [B, 3, H, W] in [0, 1] and their reconstructions."""
        assert prediction.reconstruction is not None
        nll = prediction.nll()
        fidelity, terms = reconstruction_loss(
            images.to(prediction.reconstruction.dtype),
            prediction.reconstruction,
            mse=self.mse_weight,
            ssim=self.ssim_weight,
            return_terms=True,
        )
        return LossTerms(nll + fidelity, nll.detach(), terms.mse, terms.ssim)
