"""VT-ADL: a vision transformer with a reconstruction decoder and a mixture-density head."""

from typing import NamedTuple

from torch import Tensor, nn

from vtadl.errors import InputError
from vtadl.model.decoder import Decoder
from vtadl.model.embedding import PatchEmbedding
from vtadl.model.mixture import Mixture, MixtureForm, ScaleParam
from vtadl.model.noise import GaussianNoise
from vtadl.model.transformer import TransformerEncoder
from vtadl_ext import MixtureHead


class Prediction(NamedTuple):
    """What the network makes of a batch of images."""

    reconstruction: Tensor  # [B, 3, H, W] in [0, 1]
    tokens: Tensor  # [B, N, D] without noise and detached: what the mixture is the density of
    mixture: Mixture


class VTADL(nn.Module):
    """The network of Mishra et al., "VT-ADL", ISIE 2021, with every size open.

    Noise is added to the encoded tokens while training, and both the decoder and the mixture head see
    the noisy tokens. The likelihood is that of the *clean* tokens, without gradient: a head that is
    shown the value it has to predict copies it and finds everything likely, but to remove noise it has
    to know what normal tokens look like.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 64,
        patch_size: int = 8,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        mlp_width: int = 128,
        noise_std: float = 1.0,
        bottleneck: int = 128,
        decoder_channels: int = 64,
        components: int = 10,
        scale_param: ScaleParam = "log_std",
        min_std: float = 0.1,
        mixture: MixtureForm = "logsumexp",
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
            components: Gaussians in a patch's mixture.
            scale_param: How the mixture head's scale is read.
            min_std: Smallest standard deviation of a component, where a token's own is 1.
            mixture: The mixture's likelihood, or the weighted sum of the published code.

        Raises:
            InputError: If a size does not divide as stated.
        """
        super().__init__()
        size = self.image_size = as_pair(image_size)
        if size[0] % patch_size or size[1] % patch_size:
            raise InputError(f"image_size {size[0]}x{size[1]} is not a multiple of patch_size {patch_size}")
        if width % 4 or width % heads:
            raise InputError(f"width {width} is not a multiple of 4 and of heads {heads}")
        self.embedding = PatchEmbedding(size, patch_size, width)
        self.grid = self.embedding.grid
        self.encoder = TransformerEncoder(width, depth, heads, mlp_width)
        self.noise = GaussianNoise(noise_std)
        self.bottleneck = nn.Linear(self.grid[0] * self.grid[1] * width, bottleneck)
        self.decoder = Decoder(self.grid, patch_size, bottleneck, decoder_channels)
        self.mixture_head = MixtureHead(
            width, width, components, scale_param=scale_param, min_std=min_std, mixture=mixture
        )

    def forward(self, images: Tensor) -> Prediction:
        """Images [B, 3, H, W] in [0, 1] to their reconstruction, tokens and mixtures."""
        tokens = self.encoder(self.embedding(images))
        noisy = self.noise(tokens)
        reconstruction = self.decoder(self.bottleneck(noisy.flatten(1)))
        return Prediction(reconstruction, tokens.detach(), Mixture(self.mixture_head, noisy))


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width; one number stands for both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
