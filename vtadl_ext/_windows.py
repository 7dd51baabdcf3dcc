"""The windows of SSIM."""

import math


def window_taps(window: str, size: int, sigma: float) -> list[float]:
    """The taps of a one-dimensional window in double precision. Their sum is 1."""
    if window == "uniform":
        return [1 / size] * size
    distances = [(2 * i - size + 1) / 2 / sigma for i in range(size)]
    # torch.compile cannot take powers of negative numbers where sigma varies, hence the product.
    heights = [math.exp(-(distance * distance) / 2) for distance in distances]
    total = math.fsum(heights)
    return [height / total for height in heights]
