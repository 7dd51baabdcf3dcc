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
    """Mean and standard deviation of each column of the values seen, kept in the checkpoint."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.squares: Tensor
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("squares", torch.ones(columns))  # summed squared distance from the mean

    def reset(self) -> None:
        for buffer in self.buffers():
            buffer.zero_()

    def update(self, values: Tensor) -> None:
        """Takes in values [M, columns] (Chan et al., 1979)."""
        mean = values.mean(0)
        shift, total = mean - self.mean, self.count + len(values)
        self.squares += (values - mean).square().sum(0) + shift.square() * self.count * len(values) / total
        self.mean += shift * len(values) / total
        self.count.copy_(total)

    def standardise(self, values: Tensor) -> Tensor:
        """Values [..., columns] in standard deviations from the mean."""
        variance = self.squares / self.count.clamp(min=1)
        return (values - self.mean) / variance.clamp(min=1e-12).sqrt()


class AnomalyScorer(nn.Module):
    """Adds terms of different units after standardising each by its values on held-out normal images."""

    def __init__(
        self,
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
        self.image_moments = Moments(len(score_terms))
        self.pixel_moments = Moments(len(map_terms))

    def reset(self) -> None:
        """Forgets the normal images."""
        self.image_moments.reset()
        self.pixel_moments.reset()

    def update(self, images: Tensor, prediction: Prediction, patch_nll: Tensor) -> None:
        """Takes in a batch of normal images."""
        self.image_moments.update(self._image_terms(images, prediction, patch_nll))
        self.pixel_moments.update(self._pixel_terms(images, prediction, patch_nll).flatten(0, 2))

    def forward(self, images: Tensor, prediction: Prediction, patch_nll: Tensor) -> Scores:
        """Scores a batch of images [B, 3, H, W] by the NLL [B, rows, columns] of their patches too."""
        image = self.image_moments.standardise(self._image_terms(images, prediction, patch_nll))
        pixel = self.pixel_moments.standardise(self._pixel_terms(images, prediction, patch_nll))
        return Scores(image.mean(-1), pixel.mean(-1).unsqueeze(1))

    def _image_terms(self, images: Tensor, prediction: Prediction, patch_nll: Tensor) -> Tensor:
        reconstruction = prediction.reconstruction
        terms = {
            "mse": lambda: (images - reconstruction).square().mean((1, 2, 3)),
            "dissimilarity": lambda: 1 - ssim(images, reconstruction, reduction="none"),
            "nll": lambda: largest_mean(patch_nll.flatten(1), self.top_patches),
        }
        return torch.stack([terms[name]() for name in self.score_terms], dim=-1)

    def _pixel_terms(self, images: Tensor, prediction: Prediction, patch_nll: Tensor) -> Tensor:
        reconstruction = prediction.reconstruction
        terms = {
            "error": lambda: (images - reconstruction).square(),
            "dissimilarity": lambda: 1 - ssim(images, reconstruction, padding="reflect", reduction="map"),
            "nll": lambda: F.interpolate(patch_nll[:, None], images.shape[-2:], mode="bilinear"),
        }
        maps = [smooth(terms[name]().mean(1, keepdim=True), self.smoothing) for name in self.map_terms]
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
