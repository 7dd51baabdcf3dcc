"""One density of patches: the distance to the nearest normal window near the same position."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.common.precision import full_precision, in_full_precision
from vtadl.density.projection import Projection
from vtadl.density.settings import Descriptor, ExpertSettings
from vtadl.density.window_density import WindowDensity
from vtadl.images.tiles import Size

_ROWS = 4  # of positions whose windows are compared at once
_MAX_VALUES = 2**26  # of the windows that are kept, 128 MB in half precision


class NearestWindows(WindowDensity):
    """The distance of a window to the nearest normal one at its position or beside it.

    It is the limit of a mixture whose components are the normal windows themselves, of ever smaller variance.
    One position in each direction lets an object lie a little differently. PatchCore (Roth et al., CVPR 2022)
    searches among the windows of all positions.
    """

    @full_precision()
    def __init__(self, descriptor: Descriptor, grid: Size) -> None:
        super().__init__()
        self.descriptor, self.grid = descriptor, grid
        # [D]; a parameter, because Lightning cannot fit a module that has none
        self.whitening = nn.Parameter(torch.zeros(0), requires_grad=False)
        self.register_buffer("windows", torch.zeros(0, 0, 0, 0, dtype=torch.float16))
        self.windows: Tensor  # [rows, columns, D, N]

    @torch.no_grad()
    @in_full_precision
    def fit(self, coefficients: Tensor, projection: Projection, settings: ExpertSettings) -> None:
        """Keeps the whitened PCA coefficients [N, P, D] of normal images, of as many as the memory allows."""
        self.replace("whitening", projection.whitening(settings.softness))
        kept = coefficients[: max(1, _MAX_VALUES // coefficients[0].numel())]
        x = (kept * self.whitening).unflatten(1, self.grid)
        self.windows = x.permute(1, 2, 3, 0).to(torch.float16).contiguous()

    @in_full_precision
    def forward(self, coefficients: Tensor) -> Tensor:
        """Distances [B, P] of windows, given their PCA coefficients [B, P, D]."""
        x = (coefficients * self.whitening).unflatten(1, self.grid).permute(1, 2, 0, 3)
        # Every normal window is read once, for all windows around it. The frame of zeros is dropped.
        around = F.pad(x, (0, 0, 0, 0, 1, 1, 1, 1))
        nearest = around.new_full(around.shape[:3], torch.inf)
        columns = self.grid[1]
        for start in range(0, self.grid[0], _ROWS):
            rows = slice(start, start + _ROWS)
            distances = _distances(around[start : rows.stop + 2], self.windows[rows].to(x.dtype))
            for down, right in product(range(3), range(3)):
                place = (slice(start + down, start + down + len(distances)), slice(right, right + columns))
                nearest[place] = torch.minimum(nearest[place], distances[:, :, down, right])
        squares = x.square().sum(3) + nearest[1:-1, 1:-1]
        return squares.clamp(min=0).sqrt().permute(2, 0, 1).flatten(1)


def _distances(around: Tensor, windows: Tensor) -> Tensor:
    """Squared distances of windows from the normal ones beside, less the squares of the former.

    Args:
        around: Windows at positions, in a frame of one further position [R + 2, C + 2, B, D].
        windows: Normal windows at the positions [R, C, D, N].

    Returns:
        The smallest value for each of the nine windows around a position [R, C, 3, 3, B].
    """
    neighbours = around.unfold(0, 3, 1).unfold(1, 3, 1).permute(0, 1, 4, 5, 2, 3)  # [R, C, 3, 3, B, D]
    norms = windows.square().sum(2, keepdim=True)
    values = (norms - 2 * (neighbours.flatten(2, 4) @ windows)).amin(3)
    return values.unflatten(2, (3, 3, around.shape[2]))
