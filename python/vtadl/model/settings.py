"""The sizes of the network."""

from dataclasses import dataclass

from vtadl.common.ranges import require_at_most, require_not_negative, require_positive
from vtadl.errors import InputError
from vtadl.features.backbones import default_side
from vtadl.features.input_size import InputSize
from vtadl.images.tiles import Size, as_pair

_IMAGE_SIZE = 256  # pixels, without a backbone
_MULTIPLE = 8  # pixels of the default patch


@dataclass(frozen=True)
class NetworkSettings:
    """The transformer and its decoder.

    Args:
        image_size: Height and width in pixels, or one number for both; multiples of the patch size. If null
            (None), 256, or with a backbone as large as its input: 336 for a transformer, 256 for others.
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

    image_size: int | tuple[int, int] | None = None
    patch_size: int = 8
    width: int = 64
    depth: int = 3
    heads: int = 4
    mlp_width: int = 128
    noise_std: float = 0.2
    bottleneck: int = 128
    decoder_channels: int = 64

    def __post_init__(self) -> None:
        size = choose_image_size(self.image_size)
        patch, width, heads = self.patch_size, self.width, self.heads
        mlp_width, bottleneck, channels = self.mlp_width, self.bottleneck, self.decoder_channels
        require_positive(image_size=min(size), patch_size=patch, width=width, heads=heads)
        require_positive(mlp_width=mlp_width, bottleneck=bottleneck, decoder_channels=channels)
        require_not_negative(depth=self.depth, noise_std=self.noise_std)
        require_at_most(1000, depth=self.depth, heads=heads)
        require_at_most(65536, image_size=max(size), width=width, mlp_width=mlp_width)
        require_at_most(65536, bottleneck=bottleneck, decoder_channels=channels)
        require_multiple(size, patch)
        if width % 4 or width % heads:
            raise InputError(f"width {width} is not a multiple of 4 and of heads {heads}")


def choose_image_size(
    given: int | Size | None, backbone: str | None = None, backbone_size: InputSize = None
) -> Size:
    """Height and width of images: as given, or about those of the input of a backbone, or 256 pixels."""
    if given is not None:
        return as_pair(given)
    if not backbone:
        return as_pair(_IMAGE_SIZE)
    if backbone_size is None or backbone_size == "trained":
        backbone_size = default_side(backbone)
    height, width = (-(-side // _MULTIPLE) * _MULTIPLE for side in as_pair(backbone_size))
    return height, width


def require_multiple(image_size: Size, patch_size: int) -> None:
    """Raises InputError unless patches cover an image."""
    if any(side % patch_size for side in image_size):
        height, width = image_size
        raise InputError(f"image_size {height}x{width} is not a multiple of patch_size {patch_size}")
