"""Tokens to the parameters of Gaussian mixtures."""

from typing import NamedTuple

from torch import Tensor, nn


class Mixture(NamedTuple):
    """Diagonal Gaussian mixtures, as `vtadl_ext.gmm_nll` reads them; leading dimensions broadcast."""

    logits: Tensor  # [*, K]
    mu: Tensor  # [*, K, D]
    scale: Tensor  # [*, K, D]


class MixtureHead(nn.Module):
    """Linear mixture-density head (Bishop, "Mixture Density Networks", 1994)."""

    def __init__(self, width: int, components: int) -> None:
        super().__init__()
        self.components = components
        self.logits = nn.Linear(width, components)
        self.mu = nn.Linear(width, components * width)
        self.scale = nn.Linear(width, components * width)

    def forward(self, tokens: Tensor) -> Mixture:
        """Tokens [B, N, D] to K components each."""
        shape = (self.components, tokens.shape[-1])
        mu, scale = (layer(tokens).unflatten(-1, shape) for layer in (self.mu, self.scale))
        return Mixture(self.logits(tokens), mu, scale)
