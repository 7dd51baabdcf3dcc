"""Anomaly maps as pictures."""

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor

MAP_RANGE = (0.0, 6.0)  # of the colours, in standard deviations of normal pixels; the same for all pictures


def map_picture(anomaly_map: Tensor) -> NDArray[np.uint8]:
    """An anomaly map [1, H, W] in colours [H, W, 3]: black is normal, yellow is anomalous."""
    low, high = MAP_RANGE
    level = ((anomaly_map[0].cpu() - low) / (high - low)).clamp(0, 1)
    return colormaps["inferno"](level.numpy(), bytes=True)[..., :3]


def overlay_picture(image: Tensor, anomaly_map: Tensor) -> NDArray[np.uint8]:
    """An image [3, H, W] in [0, 1] with its anomaly map over it, [H, W, 3]."""
    mixed = 0.5 * image_picture(image) + 0.5 * map_picture(anomaly_map)
    return mixed.round().astype(np.uint8)


def image_picture(image: Tensor) -> NDArray[np.uint8]:
    """An image [3, H, W] in [0, 1] as bytes [H, W, 3]."""
    return (image.cpu().permute(1, 2, 0) * 255).round().byte().numpy()
