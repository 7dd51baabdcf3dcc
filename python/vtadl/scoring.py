"""From a prediction to anomaly scores: one number per image and one per pixel."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.model import Prediction
from vtadl_ext import ssim

ScoreTerm = Literal["mse", "dissimilarity", "nll"]
MapTerm = Literal["error", "dissimilarity", "nll"]


class Scores(NamedTuple):
    """Anomaly scores of a batch; larger is more anomalous."""

    image: Tensor  # [B]
    map: Tensor  # [B, 1, H, W]


class Moments(nn.Module):
    """Mean and standard deviation of each entry of the values seen, kept in the checkpoint."""

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

    def standardise(self, values: Tensor) -> Tensor:
        """Values [..., *shape] in standard deviations from the mean."""
        variance = self.squares / self.count.clamp(min=1)
        return (values - self.mean) / variance.clamp(min=1e-12).sqrt()


class AnomalyScorer(nn.Module):
    """Averages terms of different units, each in standard deviations from held-out normal images.

    A patch counts by how far its NLL is from that of normal images at the same place, in either
    direction: an anomaly can be *more* likely than anything normal, as a plain area is (Nalisnick et
    al., "Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality", 2019).
    """

    def __init__(
        self,
        grid: tuple[int, int],
        score_terms: Sequence[ScoreTerm],
        map_terms: Sequence[MapTerm],
        top_patches: int,
        smoothing: float,
    ) -> None:
        super().__init__()
        self.score_terms = tuple(score_terms)
        self.map_terms = tuple(map_terms)
        self.top_patches = top_patches
        self.smoothing = smoothing
        self.patch_moments = Moments(*grid)
        self.image_moments = Moments(2)
        self.pixel_moments = Moments(2)

    def reset(self) -> None:
        """Forgets the normal images."""
        for moments in (self.patch_moments, self.image_moments, self.pixel_moments):
            moments.reset()

    def update(self, images: Tensor, prediction: Prediction, patch_nll: Tensor) -> None:
        """Takes in a batch of normal images."""
        self.patch_moments.update(patch_nll)
        self.image_moments.update(self._image_differences(images, prediction.reconstruction))
        self.pixel_moments.update(self._pixel_differences(images, prediction.reconstruction).flatten(0, 2))

    def forward(self, images: Tensor, prediction: Prediction, patch_nll: Tensor) -> Scores:
        """Scores a batch of images [B, 3, H, W], whose patches have the NLL [B, rows, columns]."""
        atypical = self.patch_moments.standardise(patch_nll).abs()
        differences = self._image_differences(images, prediction.reconstruction)
        mse, dissimilarity = self.image_moments.standardise(differences).unbind(-1)
        nll = largest_mean(atypical.flatten(1), self.top_patches)
        image = {"mse": mse, "dissimilarity": dissimilarity, "nll": nll}

        differences = self._pixel_differences(images, prediction.reconstruction)
        error, dissimilarity = self.pixel_moments.standardise(differences).unbind(-1)
        nll = F.interpolate(atypical[:, None], images.shape[-2:], mode="bilinear")
        pixel = {"error": error, "dissimilarity": dissimilarity, "nll": smooth(nll, self.smoothing)[:, 0]}
        return Scores(
            torch.stack([image[name] for name in self.score_terms]).mean(0),
            torch.stack([pixel[name] for name in self.map_terms], dim=1).mean(1, keepdim=True),
        )

    @staticmethod
    def _image_differences(images: Tensor, reconstruction: Tensor) -> Tensor:
        """Mean squared error and structural dissimilarity: [B, 2]."""
        mse = (images - reconstruction).square().mean((1, 2, 3))
        return torch.stack([mse, 1 - ssim(images, reconstruction, reduction="none")], dim=-1)

    def _pixel_differences(self, images: Tensor, reconstruction: Tensor) -> Tensor:
        """The same for each pixel, smoothed: [B, H, W, 2]."""
        error = (images - reconstruction).square()
        dissimilarity = 1 - ssim(images, reconstruction, padding="reflect", reduction="map")
        maps = [smooth(values.mean(1, keepdim=True), self.smoothing) for values in (error, dissimilarity)]
        return torch.cat(maps, dim=1).movedim(1, -1)


def largest_mean(values: Tensor, count: int) -> Tensor:
    """Mean of the `count` largest values of each row [B, M], or of all if there are fewer."""
    return values.topk(min(count, values.shape[1])).values.mean(1)


def smooth(images: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of `sigma` pixels over images [B, 1, H, W], mirrored at the border."""
    if sigma == 0:
        return images
    for dim in (-2, -1):
        radius = min(int(3 * sigma + 0.5), images.shape[dim] - 1)
        offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        weights = torch.softmax(-0.5 * (offsets / sigma).square(), dim=0)
        rows = F.pad(images.movedim(dim, -1), (radius, radius, 0, 0), mode="reflect")
        images = F.conv2d(rows, weights.view(1, 1, 1, -1)).movedim(-1, dim)
    return images
