"""The sizes of the network."""

from dataclasses import dataclass

from vtadl.common.ranges import require_at_most, require_not_negative, require_positive
from vtadl.errors import InputError
from vtadl.images.tiles import as_pair


@dataclass(frozen=True)
class NetworkSettings:
    """The transformer and its decoder.

    Args:
        image_size: Height and width in pixels, or one number for both; multiples of the patch size.
        patch_size: Side of a patch in pixels.
        width: Size of a token; a multiple of 4 and of the number of heads.
        depth: Number of transformer blocks.
        heads: Attention heads of a block.
        mlp_width: Hidden size of a block's perceptron.
        noise_std: Standard deviation of the noise on tokens while training, where that of tokens is 1.
        bottleneck: Size of the vector that the decoder reconstructs the image from.
        decoder_channels: Channels of the decoder's first layer; each further layer has half as many.

    Raises:
        InputError: If a size is out of range, or not a multiple as stated.
    """

    image_size: int | tuple[int, int] = 128
    patch_size: int = 8
    width: int = 64
    depth: int = 3
    heads: int = 4
    mlp_width: int = 128
    noise_std: float = 0.2
    bottleneck: int = 128
    decoder_channels: int = 64

    def __post_init__(self) -> None:
        size, patch, width, heads = as_pair(self.image_size), self.patch_size, self.width, self.heads
        mlp_width, bottleneck, channels = self.mlp_width, self.bottleneck, self.decoder_channels
        require_positive(image_size=min(size), patch_size=patch, width=width, heads=heads)
        require_positive(mlp_width=mlp_width, bottleneck=bottleneck, decoder_channels=channels)
        require_not_negative(depth=self.depth, noise_std=self.noise_std)
        require_at_most(1000, depth=self.depth, heads=heads)
        require_at_most(65536, image_size=max(size), width=width, mlp_width=mlp_width)
        require_at_most(65536, bottleneck=bottleneck, decoder_channels=channels)
        if size[0] % patch or size[1] % patch:
            raise InputError(f"image_size {size[0]}x{size[1]} is not a multiple of patch_size {patch}")
        if width % 4 or width % heads:
            raise InputError(f"width {width} is not a multiple of 4 and of heads {heads}")
