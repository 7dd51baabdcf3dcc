"""Gaussian noise on tokens while training."""

import torch
from torch import Tensor, nn


class GaussianNoise(nn.Module):
    """Adds noise from N(0, std²) in training mode, and none in evaluation mode."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.std * torch.randn_like(tokens) if self.training else tokens

    def extra_repr(self) -> str:
        return f"std={self.std}"
