"""Where an anomaly is made, and what it can be made of."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vtadl.synthesis.regions import Region


@dataclass(frozen=True)
class Site:
    """A region of one image, with other images as sources of its content."""

    images: Tensor  # [N, C, H, W] normal images
    index: int  # of the image that the anomaly is made in
    textures: Tensor  # [T, C, H, W]
    region: Region
    noise_std: float  # of that image

    @property
    def image(self) -> Tensor:
        """The image [C, H, W] that the anomaly is made in."""
        return self.images[self.index]

    @property
    def window(self) -> Tensor:
        """The part [C, h, w] of the image around the region."""
        return self.image[:, self.region.rows, self.region.columns]

    @property
    def mean(self) -> Tensor:
        """The mean colour [C, 1, 1] of the region."""
        inside = self.region.depth > 0
        return (self.window * inside).sum((1, 2), keepdim=True) / inside.sum().clamp(min=1)

    def blend(self, content: Tensor, softness: float) -> Tensor:
        """Returns the window [C, h, w] with other content in the region, whose border is soft."""
        return torch.lerp(self.window, content.to(self.window), self.region.opacity(softness).to(self.window))
