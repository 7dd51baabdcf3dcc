"""Batch normalisation by which training in several processes gives the same result as training in one."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn


class AllReduceSum(torch.autograd.Function):
    """Sums a tensor over all processes; the gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return AllReduceSum.forward(ctx, grad)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes, on any device.

    PyTorch's own :class:`torch.nn.SyncBatchNorm` requires a GPU.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        dims, shape = (0, 2, 3), (1, -1, 1, 1)
        count = images.new_tensor(images.numel() // images.shape[1], dtype=torch.float32)
        dist.all_reduce(count)
        images = images.float()
        mean = AllReduceSum.apply(images.sum(dims)) / count
        centred = images - mean.view(shape)
        variance = AllReduceSum.apply(centred.square().sum(dims)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale.view(shape) + self.bias.view(shape)


class SyncBatchNormPlugin(LayerSync):
    """The plugin by which Lightning synchronises batch normalisation between processes."""

    def apply(self, model: nn.Module) -> nn.Module:
        return _replace(model, nn.BatchNorm2d, SyncBatchNorm2d)

    def revert(self, model: nn.Module) -> nn.Module:
        return _replace(model, SyncBatchNorm2d, nn.BatchNorm2d)


def _replace(model: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> nn.Module:
    """Changes the class of layers in place: both classes have the same state and differ only in `forward`."""
    for module in model.modules():
        if type(module) is old:
            module.__class__ = new
    return model
