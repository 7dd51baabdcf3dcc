"""The training loss: likelihood of the patches and fidelity of the reconstruction."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from vtadl.model.vtadl import Likelihood, Prediction
from vtadl_ext import gmm_nll, reconstruction_loss

_LIKELIHOODS: dict[str, dict[str, Any]] = {
    "dictionary": {"scale_param": "log_std"},
    "paper": {"scale_param": "log_std"},
    "public-code": {"scale_param": "log_var", "mixture": "weighted"},
}


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
        min_std: float = 0.1,
        likelihood: Likelihood = "dictionary",
    ) -> None:
        """Sets the weights and the form of the likelihood.

        Args:
            mse_weight: Weight of the mean squared error.
            ssim_weight: Weight of the structural dissimilarity.
            min_std: Smallest standard deviation of a component under `paper`, where a token's own is 1.
            likelihood: `public-code` is the weighted sum of the published code, and not a likelihood.
        """
        super().__init__()
        self.mse_weight = mse_weight
        self.ssim_weight = ssim_weight
        self.options = _LIKELIHOODS[likelihood]
        if likelihood == "paper":
            self.options = self.options | {"min_std": min_std}

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
        """Negative log-likelihood of each patch or window: [B, P] nats."""
        return gmm_nll(prediction.features, *prediction.mixture, **self.options, reduction="none")
