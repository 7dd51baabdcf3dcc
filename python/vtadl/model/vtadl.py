"""VT-ADL: a vision transformer with a reconstruction decoder and a mixture-density head."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.common.precision import FullPrecisionModule, full_precision, in_full_precision
from vtadl.common.ranges import require_at_most, require_not_negative, require_positive
from vtadl.density.dictionary import Descriptor, Dictionary
from vtadl.density.energies import LocalEnergies
from vtadl.density.extractor import FeatureExtractor
from vtadl.density.gating import Gate
from vtadl.density.mixture import Mixture, PredictedMixture
from vtadl.density.pretrained import PretrainedPatches
from vtadl.density.windows import Windows
from vtadl.errors import InputError
from vtadl.images.tiles import as_pair
from vtadl.model.decoder import Decoder
from vtadl.model.embedding import PatchEmbedding
from vtadl.model.noise import GaussianNoise
from vtadl.model.transformer import TransformerEncoder
from vtadl_ext import MixtureHead

Likelihood = Literal["dictionary", "paper", "public-code"]


class Prediction(NamedTuple):
    """What the network makes of a batch of images."""

    reconstruction: Tensor | None  # [B, 3, H, W] in [0, 1], if it was asked for
    features: Tensor  # [B, P, D]: what the mixture is the density of
    mixture: Mixture | PredictedMixture


class VTADL(FullPrecisionModule):
    """The network of Mishra et al., "VT-ADL", ISIE 2021, with every size open.

    Under the `dictionary` likelihood, the mixture is one of fixed features of windows of the image. Its
    components are fitted to normal images, and the transformer only chooses among them: nothing that
    it learns can take the components to where no normal window is.

    Under the others the mixture is predicted from each token for that same token. With `paper`, noise is
    added to the tokens while training, and the likelihood is that of the clean ones, without gradient:
    a head that is shown the value it has to predict copies it. `public-code` does just that.
    """

    @full_precision()
    def __init__(
        self,
        image_size: int | tuple[int, int] = 128,
        patch_size: int = 8,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        mlp_width: int = 128,
        noise_std: float = 0.2,
        bottleneck: int = 128,
        decoder_channels: int = 64,
        likelihood: Likelihood = "dictionary",
        components: int = 10,
        min_std: float = 0.1,
        stride: int = 4,
        window: int = 8,
        scales: Sequence[int] = (1, 2),
        features: int = 64,
        gated: bool | None = None,
        trained: bool = False,
        pretrained: str | None = None,
        pretrained_layers: Sequence[int] = (-2, -1),
    ) -> None:
        """Builds the network.

        Args:
            image_size: Height and width in pixels, or one number for both; multiples of the patch size.
            patch_size: Side of a patch in pixels.
            width: Size of a token; a multiple of 4 and of the number of heads.
            depth: Number of transformer blocks.
            heads: Attention heads of a block.
            mlp_width: Hidden size of a block's perceptron.
            noise_std: Standard deviation of the noise on the tokens, whose own is 1, while training.
            bottleneck: Size of the one vector that the decoder sees.
            decoder_channels: Channels of the decoder's first layer, halved by each further one.
            likelihood: What the mixture is the density of, and where its parameters come from.
            components: Gaussians in a patch's mixture, unless a dictionary finds its own number.
            min_std: Smallest standard deviation of a component under `paper`, where a token's own is 1.
            stride: Pixels from one of the dictionary's windows to the next.
            window: Side of a window, in pixels of its scale.
            scales: How many pixels a side are averaged to one pixel of a window.
            features: Principal components of the windows that the dictionary is a density of.
            gated: Whether the transformer chooses among the dictionary's components; if None, where each
                position has mixtures of its own.
            trained: Whether the dictionary's components are trained too, after they are fitted.
            pretrained: Folder or name of a vision transformer of `transformers`, whose frozen patch
                features the dictionary describes in the place of windows.
            pretrained_layers: Its hidden states to use.

        Raises:
            InputError: If a size is not positive, or does not divide as stated.
        """
        super().__init__()
        size = self.image_size = as_pair(image_size)
        require_positive(image_size=min(size), patch_size=patch_size, width=width, heads=heads)
        require_positive(mlp_width=mlp_width, bottleneck=bottleneck, decoder_channels=decoder_channels)
        require_positive(components=components, features=features, stride=stride, scales=len(scales))
        require_not_negative(depth=depth, noise_std=noise_std, min_std=min_std)
        require_at_most(1000, depth=depth, heads=heads, scales=len(scales))
        require_at_most(65536, image_size=max(size), width=width, mlp_width=mlp_width, bottleneck=bottleneck)
        require_at_most(65536, decoder_channels=decoder_channels, components=components, window=window)
        if size[0] % patch_size or size[1] % patch_size:
            raise InputError(f"image_size {size[0]}x{size[1]} is not a multiple of patch_size {patch_size}")
        if width % 4 or width % heads:
            raise InputError(f"width {width} is not a multiple of 4 and of heads {heads}")
        self.likelihood = likelihood
        self.embedding = PatchEmbedding(size, patch_size, width)
        tokens = self.embedding.grid
        self.encoder = TransformerEncoder(width, depth, heads, mlp_width)
        self.noise = GaussianNoise(noise_std)
        self.bottleneck = nn.Linear(tokens[0] * tokens[1] * width, bottleneck)
        self.decoder = Decoder(tokens, patch_size, bottleneck, decoder_channels)
        if likelihood == "dictionary":
            extractors: dict[Descriptor, FeatureExtractor] = (
                {"pretrained": PretrainedPatches(pretrained, size, pretrained_layers)}
                if pretrained
                else {
                    "energies": LocalEnergies(size, stride),
                    "pixels": Windows(size, stride, window, scales),
                }
            )
            self.dictionary = Dictionary(extractors, features, trained)
            self.gated = gated
            self.gate = Gate(bottleneck, tokens, self.dictionary.grid)
            self.grid = self.dictionary.grid
        else:
            floor = min_std if likelihood == "paper" else 0.0
            self.mixture_head = MixtureHead(width, width, components, min_std=floor)
            self.grid = tokens

    def open_gate(self) -> None:
        """Makes the gate fit the dictionary, once that is fitted, or leaves it closed."""
        if self.dictionary.aligned if self.gated is None else self.gated:
            self.gate.resize(self.dictionary.mu.shape[1])

    @property
    def aligned(self) -> bool:
        """Whether each position of the dictionary has mixtures of its own."""
        return self.likelihood == "dictionary" and self.dictionary.aligned

    def forward(self, images: Tensor, reconstruct: bool = True) -> Prediction:
        """Images [B, 3, H, W] in [0, 1] to their features and mixtures, and their reconstruction if asked to.

        Without that, a dictionary whose gate is closed does not need the transformer at all. Autocast counts
        in training alone, and never for the dictionary: whatever is scored is computed in float32.
        """
        with nullcontext() if self.training else full_precision():
            return self._predict(images.to(self.embedding.positions.dtype), reconstruct)

    def _predict(self, images: Tensor, reconstruct: bool) -> Prediction:
        if not reconstruct and self.likelihood == "dictionary" and not self.gate.open:
            return Prediction(None, self.dictionary(images), self.dictionary.mixture(None))
        tokens = self.encoder(self.embedding(images))
        noisy = self.noise(tokens)
        vector = self.bottleneck(noisy.flatten(1))
        features, mixture = self._mixture(images, tokens, noisy, vector)
        return Prediction(self.decoder(vector) if reconstruct else None, features, mixture)

    @in_full_precision
    def patch_scores(self, prediction: Prediction) -> Tensor:
        """How unlike normal ones patches are, [B, rows, columns]: their NLL, less that of a background."""
        scores = prediction.mixture.nll(prediction.features, reduction="none")
        if self.likelihood == "dictionary":
            scores = scores - self.dictionary.background_nll(prediction.features)
        return scores.unflatten(1, self.grid)

    def _mixture(
        self, images: Tensor, tokens: Tensor, noisy: Tensor, vector: Tensor
    ) -> tuple[Tensor, Mixture | PredictedMixture]:
        if self.likelihood == "dictionary":
            offsets = self.gate(vector) if self.gate.open else None
            return self.dictionary(images), self.dictionary.mixture(offsets)
        if self.likelihood == "paper":
            return tokens.detach(), PredictedMixture(self.mixture_head, noisy)
        logits, mu, scale = self.mixture_head(noisy)
        return noisy, Mixture(logits, mu, F.softplus(scale), scale_param="log_var", form="weighted")
