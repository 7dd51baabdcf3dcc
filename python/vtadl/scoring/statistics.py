"""Running means and standard deviations of what normal images give."""

import torch
from torch import Tensor

from vtadl.common.precision import FullPrecisionModule, full_precision

_LEAST_DEVIATION = 0.1  # of that of all places together


class Moments(FullPrecisionModule):
    """Mean and standard deviation of each entry of the values seen, kept in the checkpoint."""

    @full_precision()
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.squares: Tensor
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("squares", torch.ones(shape))  # summed squared distance from the mean

    def reset(self) -> None:
        for buffer in self.buffers():
            buffer.zero_()

    def update(self, values: Tensor) -> None:
        """Takes in values [M, *shape] (Chan et al., 1979)."""
        mean = values.mean(0)
        shift, total = mean - self.mean, self.count + len(values)
        self.squares += (values - mean).square().sum(0) + shift.square() * self.count * len(values) / total
        self.mean += shift * len(values) / total
        self.count.copy_(total)

    def standardise(self, values: Tensor, pooled: int = 0) -> Tensor:
        """Values [..., *shape] in standard deviations from the mean.

        With `pooled` the moments are those of the last `pooled` dimensions together.
        """
        mean, variance = self.mean, self.squares / self.count.clamp(min=1)
        if pooled:
            dims = tuple(range(-pooled, 0))
            variance = (variance + mean.square()).mean(dims, keepdim=True)
            mean = mean.mean(dims, keepdim=True)
            variance = variance - mean.square()
        return (values - mean) / variance.clamp(min=1e-12).sqrt()

    def standardise_places(self, values: Tensor, dims: int, seen: bool = False) -> Tensor:
        """Values [..., *shape] by the moments of each place of the last `dims` dimensions.

        A place where normal images hardly differ is given a part of the mean variance of all places. Values
        that the moments have `seen` are each judged by the moments of the others.
        """
        mean, squares, count = self.mean, self.squares, self.count
        if seen:
            count = (count - 1).clamp(min=1)
            mean = mean - (values - mean) / count
            squares = (squares - (values - self.mean) * (values - mean)).clamp(min=0)
        variance = squares / count.clamp(min=1)
        overall = variance.mean(tuple(range(-dims, 0)), keepdim=True)
        deviation = variance.sqrt() + _LEAST_DEVIATION * overall.sqrt()
        return (values - mean) / deviation.clamp(min=1e-6)


def largest_mean(values: Tensor, count: int) -> Tensor:
    """Mean of the `count` largest values of each row [B, M], or of all if there are fewer."""
    return values.topk(min(count, values.shape[1])).values.mean(1)
