"""The decoder, which turns one vector into an image by transposed convolutions."""

from torch import Tensor, nn

from vtadl.common.precision import FullPrecisionModule


class Decoder(FullPrecisionModule):
    """Decodes a vector [B, bottleneck] to an image [B, 3, H, W] in [0, 1].

    The first transposed convolution unfolds the vector onto the grid of patches. Each further one
    enlarges the grid by a prime factor of the patch size, so that every patch size is possible.
    """

    def __init__(self, grid: tuple[int, int], patch_size: int, bottleneck: int, channels: int) -> None:
        super().__init__()
        layers = [nn.ConvTranspose2d(bottleneck, channels, grid, bias=False), *_norm_relu(channels)]
        for stride in prime_factors(patch_size):
            narrower = max(channels // 2, 16)
            kernel = 2 * stride - stride % 2
            layers += [
                nn.ConvTranspose2d(channels, narrower, kernel, stride, (kernel - stride) // 2, bias=False),
                *_norm_relu(narrower),
            ]
            channels = narrower
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels, 3, 3, padding=1), nn.Tanh())

    def forward(self, vector: Tensor) -> Tensor:
        return (self.layers(vector[:, :, None, None]) + 1) / 2


def prime_factors(number: int) -> list[int]:
    """Prime factors in ascending order; none for 1."""
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU()
