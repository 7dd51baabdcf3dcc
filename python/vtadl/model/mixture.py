"""The Gaussian mixtures of tokens."""

from typing import Literal, NamedTuple

from torch import Tensor

from vtadl_ext import MixtureHead

ScaleParam = Literal["log_std", "std", "log_var", "var", "softplus"]
MixtureForm = Literal["logsumexp", "weighted"]


class Mixture(NamedTuple):
    """One diagonal Gaussian mixture per patch: the head that predicts them, and what it sees.

    The mixtures themselves, `head(features)`, would be the largest tensors of the network by far.
    """

    head: MixtureHead
    features: Tensor  # [B, N, D]

    def nll(self, tokens: Tensor, reduction: str = "mean") -> Tensor:
        """Negative log-likelihood of tokens [B, N, D] in nats per patch: a scalar, or [B, N] for "none"."""
        return self.head.nll(tokens, self.features, reduction=reduction)
