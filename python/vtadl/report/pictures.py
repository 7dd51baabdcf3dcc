"""Images and anomaly maps as pictures."""

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries
from torch import Tensor

Pixels = NDArray[np.uint8]  # [H, W, 3]
MAP_RANGE = (0.25, 1.0)  # of the colours, in normalised scores: from what is normal to what is far from it
OUTLINE = (80, 255, 120)


def map_picture(normalised_map: NDArray[np.float32]) -> Pixels:
    """A normalised map [H, W] in colours: black is normal, red about the threshold, yellow far beyond it."""
    low, high = MAP_RANGE
    level = np.clip((normalised_map - low) / (high - low), 0, 1)
    return colormaps["inferno"](level, bytes=True)[..., :3]


def overlay_picture(image: Pixels, normalised_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> Pixels:
    """An image with the heat of its map over it, and its mask [H, W] outlined."""
    level = np.clip(2 * normalised_map - 0.5, 0, 1)[..., None] * 0.7
    mixed = (1 - level) * image + level * map_picture(normalised_map)
    mixed[find_boundaries(mask, mode="inner")] = OUTLINE
    return mixed.round().astype(np.uint8)


def image_picture(image: Tensor) -> Pixels:
    """An image [3, H, W] in [0, 1] as bytes."""
    return (image.cpu().permute(1, 2, 0) * 255).round().byte().numpy()


def mask_picture(mask: NDArray[np.bool_]) -> Pixels:
    """A mask [H, W] in white on black."""
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1)


def sixteen_bit(normalised_map: NDArray[np.float32]) -> Image.Image:
    """A normalised map [H, W] in grey levels from 0 to 65535; the threshold is at 32767.5."""
    return Image.fromarray((normalised_map * 65535).round().astype(np.uint16))
