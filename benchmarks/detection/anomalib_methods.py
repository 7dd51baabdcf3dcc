"""PatchCore and PaDiM, computed by anomalib, which is given features instead of images."""

import torch
from anomalib.models.components import MultiVariateGaussian
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from torch import Tensor, nn

from benchmarks.detection.method import Scores, anomaly_maps

_NEIGHBOURS = 9  # of the nearest feature, which weigh the score of an image
_PADIM_CHANNELS = 100


class PatchCore:
    """The distance to the nearest of a coreset of normal features (Roth et al., CVPR 2022).

    The score of an image is that of the paper: the largest distance, weighted by its neighbourhood.
    """

    def __init__(self, grid: tuple[int, int], coreset: float, seed: int) -> None:
        self.name = f"PatchCore, coreset of {100 * coreset:g} %"
        self.grid, self.coreset, self.seed = grid, coreset, seed
        self.model = _MemoryBank()

    def fit(self, images: Tensor, features: Tensor) -> None:
        torch.manual_seed(self.seed)
        self.model.embedding_store.append(features.flatten(0, 1))
        self.model.subsample_embedding(self.coreset)

    def score(self, images: Tensor, features: Tensor) -> Scores:
        embedding = features.flatten(0, 1)
        distances, locations = (
            values.unflatten(0, features.shape[:2])
            for values in self.model.nearest_neighbors(embedding, n_neighbors=1)
        )
        scores = self.model.compute_anomaly_score(distances, locations, embedding)
        return Scores(scores, distances.unflatten(1, self.grid))


class _MemoryBank(PatchcoreModel):
    """anomalib's PatchCore without the network that would compute features."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.num_neighbors = _NEIGHBOURS
        self.embedding_store: list[Tensor] = []
        self.register_buffer("memory_bank", torch.empty(0))


class PaDiM:
    """The Mahalanobis distance to a Gaussian of random channels at each position (Defard et al., ICPR 2021).

    The score of an image is the maximum of its map.
    """

    name = f"PaDiM, {_PADIM_CHANNELS} channels"

    def __init__(self, grid: tuple[int, int], seed: int) -> None:
        self.grid, self.seed = grid, seed
        self.gaussian = MultiVariateGaussian()

    def fit(self, images: Tensor, features: Tensor) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.channels = torch.randperm(features.shape[-1], generator=generator)[:_PADIM_CHANNELS]
        self.gaussian.fit(self._embedding(features))

    def score(self, images: Tensor, features: Tensor) -> Scores:
        statistics = [self.gaussian.mean, self.gaussian.inv_covariance]
        distances = AnomalyMapGenerator.compute_distance(self._embedding(features), statistics)[:, 0]
        return Scores(anomaly_maps(distances, images.shape[-2:]).amax((1, 2, 3)), distances)

    def _embedding(self, features: Tensor) -> Tensor:
        """The chosen channels [B, C, rows, columns] of features [B, P, F]."""
        return features[..., self.channels].transpose(1, 2).unflatten(2, self.grid).contiguous()
