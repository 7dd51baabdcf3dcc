"""The gate, which predicts the components that an image shows at each position."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.common.data_sized import DataSizedModule


class Gate(DataSizedModule):
    """Turns the transformer's bottleneck into offsets of the logits of a dictionary.

    The gate knows a window only through the bottleneck of the whole image, and therefore cannot copy it. The
    offsets are 0 at first.
    """

    def __init__(
        self, bottleneck: int, token_grid: tuple[int, int], grid: tuple[int, int], rank: int = 16
    ) -> None:
        super().__init__()
        self.token_grid, self.grid, self.rank = token_grid, grid, rank
        self.unfold = nn.Linear(bottleneck, rank * token_grid[0] * token_grid[1])
        self.loadings = nn.Parameter(torch.zeros(0, rank))  # [K, rank]

    def resize(self, components: int) -> None:
        """Resets the offsets of K components to 0."""
        self.replace("loadings", self.loadings.new_zeros(components, self.rank))

    def forward(self, vector: Tensor) -> Tensor:
        """Turns vectors [B, bottleneck] into offsets of the logits [B, P, K]."""
        codes = F.gelu(self.unfold(vector)).unflatten(1, (self.rank, *self.token_grid))
        if self.grid != self.token_grid:
            codes = F.interpolate(codes, self.grid, mode="bilinear")
        return codes.flatten(2).transpose(1, 2) @ self.loadings.T
