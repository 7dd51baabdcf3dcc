"""Gaussian mixtures of patches: fixed ones, and those that a head predicts."""

from typing import NamedTuple

from torch import Tensor

from vtadl_ext import MixtureHead, gmm_nll, gmm_responsibilities


class Mixture(NamedTuple):
    """Diagonal Gaussian mixtures, as `vtadl_ext.gmm_nll` reads them; leading dimensions broadcast."""

    logits: Tensor  # [*, K]
    mu: Tensor  # [*, K, D]
    scale: Tensor  # [*, K, D]
    scale_param: str = "log_std"
    form: str = "logsumexp"

    def nll(self, features: Tensor, reduction: str = "mean") -> Tensor:
        """Negative log-likelihood of features [B, P, D] in nats: a scalar, or [B, P] for "none"."""
        parameters = (self.logits, self.mu, self.scale)
        return gmm_nll(
            features, *parameters, scale_param=self.scale_param, mixture=self.form, reduction=reduction
        )

    def responsibilities(self, features: Tensor) -> Tensor:
        """Posterior probability of each component given features [B, P, D]: [B, P, K]."""
        return gmm_responsibilities(features, self.logits, self.mu, self.scale, scale_param=self.scale_param)


class PredictedMixture(NamedTuple):
    """One mixture per patch, as the head that predicts it from a token.

    The mixtures themselves, `head(tokens)`, would be by far the largest tensors of the network.
    """

    head: MixtureHead
    tokens: Tensor  # [B, P, H]

    def nll(self, features: Tensor, reduction: str = "mean") -> Tensor:
        """Negative log-likelihood, as for :meth:`Mixture.nll`."""
        return self.head.nll(features, self.tokens, reduction=reduction)
