"""One density of patches: the distance to the nearest normal window near the same position."""

import torch
from torch import Tensor, nn

from vtadl.common.precision import full_precision, in_full_precision
from vtadl.density.projection import Projection
from vtadl.density.settings import Descriptor, ExpertSettings
from vtadl.density.window_density import WindowDensity
from vtadl.images.tiles import Size

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
        windows = self.windows.to(x.dtype)
        norms, squares = x.square().sum(3), windows.square().sum(2, keepdim=True)
        rows, columns = self.grid
        nearest = x.new_full(x.shape[:3], torch.inf)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                here = (_inside(rows, -down), _inside(columns, -right))
                there = (_inside(rows, down), _inside(columns, right))
                products = x[here] @ windows[there]
                distances = norms[here] + (squares[there] - 2 * products).amin(3)
                nearest[here] = torch.minimum(nearest[here], distances)
        return nearest.clamp(min=0).sqrt().permute(2, 0, 1).flatten(1)


def _inside(count: int, shift: int) -> slice:
    """The positions of a line that are still on it after a shift of the other line by `-shift`."""
    return slice(max(0, shift), count + min(0, shift))
