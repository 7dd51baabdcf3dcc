"""Principal components of features, softly whitened."""

import torch
from torch import Tensor

from vtadl.common.data_sized import DataSizedModule
from vtadl.common.precision import full_precision, in_full_precision

_ENERGY_FLOOR = 0.1  # of the mean discarded eigenvalue; it keeps the logarithm finite for flat windows
_ROUNDING = 1e-6  # of the largest eigenvalue; the equal channels of grey images leave smaller eigenvalues


class Projection(DataSizedModule):
    """Coefficients of the leading principal components, and the logarithm of the residual energy.

    The residual energy, the last coefficient, responds to structure that normal windows never contain, such
    as a new colour. Its logarithm keeps its heavy tail from dominating the other coefficients.
    """

    @full_precision()
    def __init__(self, features: int, chunk: int = 16) -> None:
        super().__init__()
        self.features = features
        self.chunk = chunk
        self.mean: Tensor
        self.basis: Tensor
        self.eigenvalues: Tensor
        self.energy: Tensor
        self.register_buffer("mean", torch.zeros(0))  # [F]
        self.register_buffer("basis", torch.zeros(0, 0))  # [F, D - 1]
        self.register_buffer("eigenvalues", torch.zeros(0))  # [D - 1], descending
        self.register_buffer("energy", torch.zeros(3))  # floor, and mean and deviation of the logarithm

    @in_full_precision
    def fit(self, features: Tensor) -> None:
        """Fits the principal components to the features [N, P, F] of images."""
        chunks, size = features.split(self.chunk), features.shape[-1]
        count, total = 0, features.new_zeros(size, dtype=torch.float64)
        squares = features.new_zeros(size, size, dtype=torch.float64)
        for chunk in chunks:
            x = chunk.flatten(0, 1)
            count += len(x)
            total += x.sum(0)
            squares += x.T @ x
        mean = total / count
        eigenvalues, basis = torch.linalg.eigh(squares / count - mean[:, None] * mean)
        eigenvalues, basis = eigenvalues.flip(0).clamp(min=0), basis.flip(1)
        rank = int((eigenvalues > _ROUNDING * eigenvalues[0]).sum().clamp(min=1))
        used = min(rank, self.features)
        self.mean, self.basis = mean.float(), basis[:, :used].float().contiguous()
        self.eigenvalues = eigenvalues[:used].float()
        discarded = eigenvalues[used:].mean() if used < rank else eigenvalues[used - 1]
        self.energy = torch.tensor([_ENERGY_FLOOR * discarded.item() + 1e-8, 0.0, 1.0]).to(features)
        energies = torch.cat([self(chunk)[..., -1].flatten() for chunk in chunks])
        self.energy[1:] = torch.stack([energies.mean(), energies.std().clamp(min=0.1)])

    @in_full_precision
    def forward(self, x: Tensor) -> Tensor:
        """Turns features [..., F] into coefficients [..., D] in units of x; the last one has unit scale."""
        centred = x - self.mean
        coefficients = centred @ self.basis
        # The difference of the two energies would cancel where the residual is small.
        residual = (centred - coefficients @ self.basis.T).square().sum(-1)
        floor, mean, deviation = self.energy
        energy = (residual / max(1, len(self.mean) - len(self.eigenvalues)) + floor).log()
        return torch.cat([coefficients, ((energy - mean) / deviation)[..., None]], dim=-1)

    @in_full_precision
    def whitening(self, softness: float) -> Tensor:
        """Factors [D] that give every coefficient unit variance at softness 0, and equal factors at infinity.

        `softness` is a variance, in units of the largest one, that is added to that of every coefficient.
        """
        largest = self.eigenvalues[0].clamp(min=1e-12)
        factors = ((self.eigenvalues + softness * largest) / (1 + softness)).rsqrt()
        return torch.cat([factors, factors.new_ones(1)])
