"""`ssim` against the libraries for it."""

from collections.abc import Callable

import kornia.metrics
import pytorch_msssim
import torch
import torchmetrics.functional.image
from torch import Tensor

import vtadl_ext
from benchmarks.measure import Case, forward, forward_backward, forward_backward_first


def torchmetrics_ssim(x: Tensor, y: Tensor) -> Tensor:
    _, full = torchmetrics.functional.image.structural_similarity_index_measure(
        x, y, data_range=1.0, return_full_image=True
    )
    return full[..., 5:-5, 5:-5].mean()  # its windows reach beyond the image


def kornia_ssim(x: Tensor, y: Tensor) -> Tensor:
    return kornia.metrics.ssim(x, y, 11, 1.0, padding="valid").mean()


def pytorch_msssim_ssim(x: Tensor, y: Tensor) -> Tensor:
    return pytorch_msssim.ssim(x, y, data_range=1.0)


PROVIDERS: dict[str, Callable[..., Tensor]] = {
    "vtadl_ext": vtadl_ext.ssim,
    "pytorch-msssim": pytorch_msssim_ssim,
    "pytorch-msssim compiled": torch.compile(pytorch_msssim_ssim),
    "torchmetrics": torchmetrics_ssim,
    "kornia": kornia_ssim,
}


def cases(device: torch.device) -> list[Case]:
    def case(*shape: int) -> Case:
        x = torch.rand(shape, device=device)
        y = (x + 0.1 * torch.randn_like(x)).clamp(0, 1)
        name = " x ".join(map(str, shape))
        modes = (forward, forward_backward_first, forward_backward)
        return Case(name, (x, y), vtadl_ext.reference.ssim, PROVIDERS, modes)

    return [case(8, 3, 512, 512), case(1, 1, 64, 64)]
