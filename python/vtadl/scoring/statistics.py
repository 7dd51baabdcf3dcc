"""Statistics of scores: running moments, and the mean of the largest values."""

import torch
from torch import Tensor

from vtadl.common.precision import FullPrecisionModule, full_precision

_MIN_DEVIATION = 0.1  # of the root mean variance of all positions


class RunningMoments(FullPrecisionModule):
    """Mean and standard deviation of each entry of the values, which the checkpoint keeps."""

    @full_precision()
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.squares: Tensor
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("squares", torch.ones(shape))  # summed squared distance from the mean

    @classmethod
    def of(cls, values: Tensor) -> "RunningMoments":
        """The moments of values [M, *shape] alone."""
        moments = cls(*values.shape[1:]).to(values)
        moments.reset()
        moments.update(values)
        return moments

    def reset(self) -> None:
        for buffer in self.buffers():
            buffer.zero_()

    def update(self, values: Tensor) -> None:
        """Adds values [M, *shape] (Chan et al., 1979)."""
        mean = values.mean(0)
        shift, total = mean - self.mean, self.count + len(values)
        self.squares += (values - mean).square().sum(0) + shift.square() * self.count * len(values) / total
        self.mean += shift * len(values) / total
        self.count.copy_(total)

    def standardise(self, values: Tensor, pooled: int = 0) -> Tensor:
        """Values [..., *shape] in standard deviations from the mean.

        With `pooled`, the moments are those of the last `pooled` dimensions together.
        """
        mean, variance = self.mean, self.squares / self.count.clamp(min=1)
        if pooled:
            dims = tuple(range(-pooled, 0))
            variance = (variance + mean.square()).mean(dims, keepdim=True)
            mean = mean.mean(dims, keepdim=True)
            variance = variance - mean.square()
        return (values - mean) / variance.clamp(min=1e-12).sqrt()

    def standardise_positions(self, values: Tensor, dims: int, leave_one_out: bool = False) -> Tensor:
        """Values [..., *shape] in standard deviations from the mean of each position of the last dimensions.

        A part of the mean deviation of all positions is added to that of each, because normal images hardly
        differ at some of them. With `leave_one_out`, the values are among those of the moments, and each is
        standardised by the moments of the others.
        """
        mean, squares, count = self.mean, self.squares, self.count
        if leave_one_out:
            count = (count - 1).clamp(min=1)
            mean = mean - (values - mean) / count
            squares = (squares - (values - self.mean) * (values - mean)).clamp(min=0)
        variance = squares / count.clamp(min=1)
        overall = variance.mean(tuple(range(-dims, 0)), keepdim=True)
        deviation = variance.sqrt() + _MIN_DEVIATION * overall.sqrt()
        return (values - mean) / deviation.clamp(min=1e-6)


def top_k_mean(values: Tensor, k: int) -> Tensor:
    """Mean of the k largest values of each row [B, M], or of all values if there are fewer."""
    return values.topk(min(k, values.shape[1])).values.mean(1)
