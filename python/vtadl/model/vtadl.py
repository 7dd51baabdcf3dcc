"""VT-ADL: a vision transformer with a reconstruction decoder and a mixture-density head."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision
from vtadl.density import DensitySettings, Dictionary, Mixture, PredictedMixture
from vtadl.density.descriptors import make_extractors
from vtadl.density.gating import Gate
from vtadl.features.frozen import FrozenNetwork
from vtadl.model.decoder import Decoder
from vtadl.model.embedding import PatchEmbedding
from vtadl.model.noise import GaussianNoise
from vtadl.model.settings import NetworkSettings, choose_image_size, require_multiple
from vtadl.model.transformer import TransformerEncoder
from vtadl_ext import MixtureHead

_COMPONENTS, _MIN_STD = 10, 0.1  # defaults of predicted mixtures


class Prediction(NamedTuple):
    """What the network predicts for a batch of images."""

    reconstruction: Tensor | None  # [B, 3, H, W] in [0, 1], if requested
    features: Tensor | None  # [B, P, D], whose density the mixture is
    mixture: Mixture | PredictedMixture | None  # None for a dictionary that nothing trains
    scores: Tensor | None = None  # [B, rows, columns] of such a dictionary

    def nll(self) -> Tensor:
        """The mean NLL of the patches in nats; the mean score for a dictionary that nothing trains."""
        if self.scores is not None:
            return self.scores.mean()
        assert self.mixture is not None
        assert self.features is not None
        return self.mixture.nll(self.features)


class VTADL(FullPrecisionModule):
    """The network of Mishra et al., "VT-ADL", ISIE 2021, with configurable sizes.

    With the `dictionary` likelihood, the mixture is a density of fixed features of windows of the image. Its
    components are fitted to normal images, and a gate, if there is one, lets the transformer weight them, so
    that training cannot move components away from normal windows. If nothing that is trained can change a
    score, the network is this dictionary alone.

    With the other likelihoods, the mixture is predicted from each token for the same token. With `paper`,
    noise is added to the tokens while training, and the likelihood is that of the clean tokens, without
    gradient, because a head that is shown the value it predicts copies it. `public-code` does so.
    """

    @full_precision()
    def __init__(
        self, network: NetworkSettings, density: DensitySettings, reconstructs: bool = False
    ) -> None:
        """Builds the network.

        Args:
            network: Sizes of the transformer and its decoder.
            density: The density of patches.
            reconstructs: Whether scores need a reconstruction.

        Raises:
            InputError: If a size does not divide as stated, or the backbone cannot be loaded.
        """
        super().__init__()
        size = choose_image_size(network.image_size, density.backbone, density.backbone_size)
        self.image_size = size
        self.likelihood = density.likelihood
        self.density_trains = density.trains
        self.trains = density.trains or reconstructs
        tokens = (size[0] // network.patch_size, size[1] // network.patch_size)
        if self.trains:
            require_multiple(size, network.patch_size)
            self.embedding = PatchEmbedding(size, network.patch_size, network.width)
            self.encoder = TransformerEncoder(network.width, network.depth, network.heads, network.mlp_width)
            self.noise = GaussianNoise(network.noise_std)
            self.bottleneck = nn.Linear(tokens[0] * tokens[1] * network.width, network.bottleneck)
            self.decoder = Decoder(tokens, network.patch_size, network.bottleneck, network.decoder_channels)
        if density.likelihood == "dictionary":
            self.dictionary = Dictionary(make_extractors(density, size), density.features, density.trained)
            self.gate = Gate(network.bottleneck, tokens, self.dictionary.grid) if density.gated else None
            self.grid = self.dictionary.grid
        else:
            components = density.components or _COMPONENTS
            min_std = _MIN_STD if density.min_std is None else density.min_std
            floor = min_std if density.likelihood == "paper" else 0.0
            self.mixture_head = MixtureHead(network.width, network.width, components, min_std=floor)
            self.grid = tokens

    def open_gate(self) -> None:
        """Opens the gate, if there is one, for the components of the fitted dictionary."""
        if self.gate is not None:
            self.gate.resize(self.dictionary.expert.mu.shape[1])

    @property
    def backbone_config(self) -> dict[str, Any] | None:
        """The architecture of the backbone, if there is one."""
        return next((module.config for module in self.modules() if isinstance(module, FrozenNetwork)), None)

    def forward(self, images: Tensor, reconstruct: bool = True) -> Prediction:
        """Predicts features and mixtures of images [B, 3, H, W] in [0, 1], and reconstructs them if asked.

        Without a reconstruction, a dictionary without a gate does not need the transformer. Where nothing is
        trained there is no reconstruction. Autocast applies to training alone, and never to the dictionary:
        all scores are computed in float32.
        """
        with nullcontext() if self.training else full_precision():
            return self._predict(images, reconstruct)

    def _predict(self, images: Tensor, reconstruct: bool) -> Prediction:
        dictionary = self.likelihood == "dictionary"
        fixed = dictionary and not self.density_trains
        scores = self.dictionary(images) if fixed else None
        if not self.trains or (fixed and not reconstruct):
            return Prediction(None, None, None, scores)
        if dictionary and self.gate is None and not reconstruct:
            return Prediction(None, self.dictionary.features(images), self.dictionary.mixture())
        images = images.to(self.embedding.positions.dtype)
        tokens = self.encoder(self.embedding(images))
        noisy = self.noise(tokens)
        vector = self.bottleneck(noisy.flatten(1))
        reconstruction = self.decoder(vector) if reconstruct else None
        if fixed:
            return Prediction(reconstruction, None, None, scores)
        return Prediction(reconstruction, *self._mixture(images, tokens, noisy, vector))

    @in_full_precision
    def patch_scores(self, prediction: Prediction) -> Tensor:
        """Scores [B, rows, columns] of patches: their NLL, minus that of the background if there is one."""
        if prediction.scores is not None:
            return prediction.scores
        assert prediction.mixture is not None
        assert prediction.features is not None
        scores = prediction.mixture.nll(prediction.features, reduction="none")
        if self.likelihood == "dictionary":
            scores = scores - self.dictionary.expert.background_nll(prediction.features)
            return self.dictionary.on_grid(scores, self.dictionary.expert.descriptor)
        return scores.unflatten(1, self.grid)

    def _mixture(
        self, images: Tensor, tokens: Tensor, noisy: Tensor, vector: Tensor
    ) -> tuple[Tensor, Mixture | PredictedMixture]:
        if self.likelihood == "dictionary":
            offsets = None if self.gate is None else self.gate(vector)
            return self.dictionary.features(images), self.dictionary.mixture(offsets)
        if self.likelihood == "paper":
            return tokens.detach(), PredictedMixture(self.mixture_head, noisy)
        logits, mu, scale = self.mixture_head(noisy)
        return noisy, Mixture(logits, mu, F.softplus(scale), scale_param="log_var", form="weighted")
