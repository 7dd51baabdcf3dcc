"""Which components an image is likely to show where."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.density.resizing import Resizing


class Gate(Resizing):
    """Turns the transformer's bottleneck into changes of the log-weights of a dictionary.

    All that it knows of a window has passed the bottleneck of the whole image, so it cannot copy. It
    starts from no change at all.
    """

    def __init__(
        self, bottleneck: int, token_grid: tuple[int, int], grid: tuple[int, int], rank: int = 16
    ) -> None:
        super().__init__()
        self.token_grid, self.grid, self.rank = token_grid, grid, rank
        self.unfold = nn.Linear(bottleneck, rank * token_grid[0] * token_grid[1])
        self.loadings = nn.Parameter(torch.zeros(0, rank))  # [K, rank]
        self.requires_grad_(False)

    @property
    def open(self) -> bool:
        """Whether there is anything to choose among."""
        return self.loadings.numel() > 0

    def resize(self, components: int) -> None:
        """Starts anew with K components."""
        self.replace("loadings", self.loadings.new_zeros(components, self.rank))
        self.requires_grad_(True)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.requires_grad_(self.open)  # what nothing uses cannot be trained

    def forward(self, vector: Tensor) -> Tensor:
        """A vector [B, bottleneck] to changes of the log-weights [B, P, K]."""
        codes = F.gelu(self.unfold(vector)).unflatten(1, (self.rank, *self.token_grid))
        if self.grid != self.token_grid:
            codes = F.interpolate(codes, self.grid, mode="bilinear")
        return codes.flatten(2).transpose(1, 2) @ self.loadings.T
