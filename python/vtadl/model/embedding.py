"""Images to tokens: linear patch embedding with learned positions."""

import torch
from torch import Tensor, nn

from vtadl.common.precision import FullPrecisionModule


class PatchEmbedding(FullPrecisionModule):
    """Cuts an image into square patches and projects each one linearly.

    The learned positions start from the two-dimensional sine and cosine encoding, because with a small random
    initialisation the decoder predicts the mean image for long.
    """

    def __init__(self, image_size: tuple[int, int], patch_size: int, width: int) -> None:
        super().__init__()
        self.grid = (image_size[0] // patch_size, image_size[1] // patch_size)
        self.projection = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)
        self.positions = nn.Parameter(sine_cosine_positions(*self.grid, width))

    def forward(self, images: Tensor) -> Tensor:
        """Turns images [B, 3, H, W] into tokens [B, N, width], row by row."""
        return self.projection(images).flatten(2).transpose(1, 2) + self.positions


def sine_cosine_positions(rows: int, columns: int, width: int) -> Tensor:
    """Sines and cosines of rows and columns at width / 4 frequencies each: [rows * columns, width]."""
    coordinates = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).view(-1, 2, 1)
    # The device is explicit because transformers replaces torch.linspace by one that stays on the CPU.
    frequencies = 10000.0 ** -torch.linspace(0, 1, width // 4, device=coordinates.device)
    angles = (coordinates * frequencies).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
