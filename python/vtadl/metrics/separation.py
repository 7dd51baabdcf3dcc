"""How often an anomalous score exceeds a normal one."""

import math

import torch
from torch import Tensor

_NORMAL_PIXELS = 2**19  # that false-positive rates are counted on, at most


def auroc(normal: Tensor, anomalous: Tensor) -> float:
    """Probability that an anomalous score exceeds a normal one, ties counting half; 0.5 without either."""
    if not len(normal) or not len(anomalous):
        return 0.5
    ordered = normal.sort().values
    below, up_to = (
        torch.searchsorted(ordered, anomalous.contiguous(), right=right) for right in (False, True)
    )
    return (below + up_to).double().mean().item() / (2 * len(normal))


def overlap(normal: Tensor, anomalous: Tensor, masks: Tensor, limit: float = 0.3) -> float:
    """Mean part of the changed regions that is found, over false-positive rates up to a limit.

    Maps of normal and changed images [M, 1, H, W] with masks of the changes. Each image counts alike, however
    large its region: the AUPRO of Bergmann et al. (2021) with one region in each image.
    """
    changed = masks > 0.5
    unchanged = torch.cat([normal.flatten(), anomalous[~changed]])
    ordered = unchanged[:: math.ceil(len(unchanged) / _NORMAL_PIXELS)].sort().values
    rates = 1 - torch.searchsorted(ordered, anomalous[changed]).double() / len(ordered)
    found = torch.zeros_like(masks, dtype=torch.float64)
    found[changed] = (1 - rates / limit).clamp(min=0)
    regions = changed.sum((1, 2, 3)).clamp(min=1)
    return (found.sum((1, 2, 3)) / regions).mean().item()
