"""The base class of the densities of windows."""

import torch
from torch import Tensor

from vtadl.common.data_sized import DataSizedModule
from vtadl.density.settings import Descriptor

_CHUNK = 16  # images whose scores are computed at once


class WindowDensity(DataSizedModule):
    """Scores the windows of images, given the PCA coefficients [B, P, D] of one descriptor."""

    descriptor: Descriptor

    @torch.no_grad()
    def scores(self, coefficients: Tensor) -> Tensor:
        """The scores [N, P] of many images, some of them at a time."""
        return torch.cat([self(chunk) for chunk in coefficients.split(_CHUNK)])
