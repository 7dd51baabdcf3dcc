"""The memory of the operators on images. The emulated kernels are too slow for these tests."""

from functools import partial

import pytest
import torch

from vtadl_ext import reconstruction_loss, ssim

from .images import random_mask
from .memory import peak_growth

SHAPE = (4, 3, 1024, 1024)
IMAGE = 4 * 3 * 1024 * 1024 * 4  # bytes
LAYOUTS = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"]
)


def functions(device):
    mask = random_mask(1024, 1024, device=device)
    return {
        "mean": ssim,
        "same": partial(ssim, padding="same"),
        "masked": partial(ssim, mask=mask),
        "loss": partial(reconstruction_loss, l1=1.0),
        "none": partial(ssim, reduction="none"),
    }


@LAYOUTS
@pytest.mark.parametrize("name", ["mean", "same", "masked", "loss", "none"])
def test_a_value_needs_no_image_more(real_device, name, layout):
    function = functions(real_device)[name]
    x, y = (torch.rand(SHAPE, device=real_device).contiguous(memory_format=layout) for _ in "xy")
    with torch.no_grad():
        assert peak_growth(lambda: function(x, y), real_device) < 0.3 * IMAGE


@LAYOUTS
@pytest.mark.parametrize("name", ["mean", "same", "masked", "loss", "none"])
@pytest.mark.parametrize("needs", [1, 2])
def test_a_training_step_needs_the_gradients_and_no_image_more(real_device, name, needs, layout):
    function = functions(real_device)[name]
    x, y = (torch.rand(SHAPE, device=real_device).contiguous(memory_format=layout) for _ in "xy")
    leaves = [x, y][:needs]
    for leaf in leaves:
        leaf.requires_grad_()

    def step():
        torch.autograd.grad(0.5 * function(x, y).sum(), leaves)

    assert peak_growth(step, real_device) < (needs + 0.3) * IMAGE
