"""Windows of pixels around a grid of positions: features without parameters."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.common.precision import in_full_precision
from vtadl.errors import InputError
from vtadl.features.extractor import FeatureExtractor


class Windows(FeatureExtractor):
    """Square windows of the image at several scales, centred on a grid with a stride.

    At scale s the image is averaged over s x s pixels first, so that a window of `window` values a side
    covers `window * s` pixels of the image.
    """

    def __init__(
        self, image_size: tuple[int, int], stride: int, window: int = 8, scales: Sequence[int] = (1, 2)
    ) -> None:
        """Checks the sizes.

        Raises:
            InputError: If the stride does not divide the image, or a scale does not divide the stride.
        """
        super().__init__()
        self.grid = self.grid_of(image_size, stride)
        for scale in scales:
            if scale < 1 or stride % scale or window < stride // scale:
                raise InputError(
                    f"scale {scale} needs a stride of which it is a divisor, and a window of at least "
                    f"stride / scale; stride is {stride}, window is {window}"
                )
        self.stride, self.window, self.scales = stride, window, tuple(scales)

    @in_full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Turns images [B, C, H, W] into the pixels of their windows [B, P, C * window² * scales]."""
        return torch.cat([self._at_scale(images, scale) for scale in self.scales], dim=1).transpose(1, 2)

    def _at_scale(self, images: Tensor, scale: int) -> Tensor:
        stride = self.stride // scale
        before = (self.window - stride) // 2
        after = self.window - stride - before
        pooled = F.avg_pool2d(images, scale)
        return F.unfold(F.pad(pooled, (before, after) * 2, mode="replicate"), self.window, stride=stride)
