"""The methods of vtadl."""

from hashlib import blake2b

import torch
from torch import Tensor

from benchmarks.detection.method import Scores
from vtadl.density import DensitySettings, Descriptor, Dictionary, ExpertSettings
from vtadl.density.descriptors import make_extractors
from vtadl.features.extractor import FeatureExtractor
from vtadl.scoring.settings import ScoringSettings
from vtadl.scoring.statistics import top_k_mean
from vtadl.tuning.fitting import fit_dictionary

GAUSSIANS = ExpertSettings("backbone", "own", components=1, min_std=0.3, softness=0.03)


class KnownFeatures(FeatureExtractor):
    """The features of a network, which are not computed again for images whose features are known."""

    def __init__(self, network: FeatureExtractor) -> None:
        super().__init__()
        self.network, self.grid = network, network.grid
        self.known: dict[bytes, Tensor] = {}

    def remember(self, images: Tensor, features: Tensor) -> None:
        """Notes the features [N, P, F] of images [N, 3, H, W]."""
        self.known.update(zip(map(_digest, images), features, strict=True))

    def forget(self) -> None:
        """Drops all features, which take much memory."""
        self.known.clear()

    def forward(self, images: Tensor) -> Tensor:
        """The features [B, P, F] of images [B, 3, H, W]."""
        known = [self.known.get(_digest(image)) for image in images]
        unknown = [index for index, features in enumerate(known) if features is None]
        computed = iter(self.network(images[unknown]) if unknown else ())
        return torch.stack([next(computed) if features is None else features for features in known])


def _digest(image: Tensor) -> bytes:
    return blake2b(image.numpy().tobytes(), digest_size=16).digest()


class _FittedDictionary:
    """A dictionary; the score of an image is the mean of its largest scores, as in the detector."""

    dictionary: Dictionary

    def score(self, images: Tensor, features: Tensor) -> Scores:
        positions = self.dictionary(images)
        return Scores(top_k_mean(positions.flatten(1), ScoringSettings().top_patches), positions)


class Gaussians(_FittedDictionary):
    """One Gaussian of the principal components at each position."""

    name = "vtadl: Gaussian per position"

    def __init__(self, network: FeatureExtractor) -> None:
        self.dictionary = Dictionary({"backbone": network})

    def fit(self, images: Tensor, features: Tensor) -> None:
        self.dictionary.fit(images, GAUSSIANS)


class ChosenExperts(_FittedDictionary):
    """The experts that the detector chooses and weighs, among those of windows and those of the network."""

    name = "vtadl: chosen experts"

    def __init__(self, network: FeatureExtractor, image_size: tuple[int, int]) -> None:
        extractors: dict[Descriptor, FeatureExtractor] = {"backbone": network}
        self.dictionary = Dictionary(extractors | make_extractors(DensitySettings(), image_size))

    def fit(self, images: Tensor, features: Tensor) -> None:
        fit_dictionary(self.dictionary, images, DensitySettings(), ScoringSettings())
