"""The training loss: mixture likelihood of the tokens and fidelity of the reconstruction."""

from typing import Literal, NamedTuple

from torch import Tensor, nn

from vtadl.model.vtadl import Prediction
from vtadl_ext import gmm_nll, reconstruction_loss

ScaleParam = Literal["log_std", "std", "log_var", "var", "softplus"]
MixtureForm = Literal["logsumexp", "weighted"]


class LossTerms(NamedTuple):
    """The loss and what it is made of, each a scalar; only `total` has gradients."""

    total: Tensor
    nll: Tensor
    mse: Tensor
    ssim: Tensor


class VTADLLoss(nn.Module):
    """NLL + mse_weight * MSE + ssim_weight * (1 - SSIM), the NLL in nats per patch."""

    def __init__(
        self,
        mse_weight: float = 5.0,
        ssim_weight: float = 0.5,
        scale_param: ScaleParam = "log_std",
        min_std: float = 0.1,
        mixture: MixtureForm = "logsumexp",
    ) -> None:
        """Sets the weights and the form of the likelihood.

        Args:
            mse_weight: Weight of the mean squared error.
            ssim_weight: Weight of the structural dissimilarity.
            scale_param: How the head's scale is read.
            min_std: Smallest standard deviation of a component, where a token's own is 1.
            mixture: The mixture's likelihood, or the weighted sum of the published code.
        """
        super().__init__()
        self.mse_weight = mse_weight
        self.ssim_weight = ssim_weight
        self.scale_param: ScaleParam = scale_param
        self.min_std = min_std
        self.mixture: MixtureForm = mixture

    def forward(self, images: Tensor, prediction: Prediction) -> LossTerms:
        """Loss of a batch of images [B, 3, H, W] in [0, 1]."""
        nll = self.patch_nll(prediction).mean()
        fidelity, terms = reconstruction_loss(
            images,
            prediction.reconstruction,
            mse=self.mse_weight,
            ssim=self.ssim_weight,
            return_terms=True,
        )
        return LossTerms(nll + fidelity, nll.detach(), terms.mse, terms.ssim)

    def patch_nll(self, prediction: Prediction) -> Tensor:
        """Negative log-likelihood of each patch's token: [B, N] nats."""
        return gmm_nll(
            prediction.tokens,
            *prediction.mixture,
            scale_param=self.scale_param,
            min_std=self.min_std,
            mixture=self.mixture,
            reduction="none",
        )
