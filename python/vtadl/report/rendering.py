"""Rendering of images, anomaly maps and masks as RGB pictures."""

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries
from torch import Tensor

RGBImage = NDArray[np.uint8]  # [H, W, 3]
COLORMAP_RANGE = (0.25, 1.0)  # normalised scores at both ends of the colormap
CONTOUR_COLOUR = (80, 255, 120)


def render_map(normalised_map: NDArray[np.float32]) -> RGBImage:
    """Renders a normalised map [H, W]: normal is black, the threshold is red, and far above it is yellow."""
    low, high = COLORMAP_RANGE
    level = np.clip((normalised_map - low) / (high - low), 0, 1)
    return colormaps["inferno"](level, bytes=True)[..., :3]


def render_overlay(image: RGBImage, normalised_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> RGBImage:
    """Blends an image with its normalised map [H, W], and outlines its mask [H, W]."""
    opacity = np.clip(2 * normalised_map - 0.5, 0, 1)[..., None] * 0.7
    blended = (1 - opacity) * image + opacity * render_map(normalised_map)
    blended[find_boundaries(mask, mode="inner")] = CONTOUR_COLOUR
    return blended.round().astype(np.uint8)


def render_image(image: Tensor) -> RGBImage:
    """Converts an image [3, H, W] in [0, 1] to bytes."""
    return (image.cpu().permute(1, 2, 0) * 255).round().byte().numpy()


def render_mask(mask: NDArray[np.bool_]) -> RGBImage:
    """Renders a mask [H, W] in white on black."""
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1)


def map_to_uint16(normalised_map: NDArray[np.float32]) -> Image.Image:
    """Converts a normalised map [H, W] to grey levels from 0 to 65535; the threshold is at 32767.5."""
    return Image.fromarray((normalised_map * 65535).round().astype(np.uint16))
