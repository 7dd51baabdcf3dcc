"""How well the scores of anomalies are separated from normal scores, computed on tensors during tuning."""

import math

import torch
from torch import Tensor

_MAX_NORMAL_PIXELS = 2**19  # more are subsampled for the false-positive rates


def auroc(normal: Tensor, anomalous: Tensor) -> float:
    """Computes the probability that an anomalous score [A] exceeds a normal score [N].

    A tie counts as one half. The result is 0.5 if either tensor is empty.
    """
    if not len(normal) or not len(anomalous):
        return 0.5
    ordered = normal.sort().values
    below, up_to = (
        torch.searchsorted(ordered, anomalous.contiguous(), right=right) for right in (False, True)
    )
    return (below + up_to).double().mean().item() / (2 * len(normal))


def single_region_aupro(normal: Tensor, anomalous: Tensor, masks: Tensor, max_fpr: float = 0.3) -> float:
    """Computes AUPRO (Bergmann et al., 2021) where each anomalous image has one region.

    Args:
        normal: Anomaly maps of normal images [M, 1, H, W].
        anomalous: Anomaly maps of images with a synthetic anomaly [M, 1, H, W].
        masks: The anomalous regions, 0 or 1 [M, 1, H, W].
        max_fpr: False-positive rate at which the integration stops.
    """
    inside = masks > 0.5
    outside = torch.cat([normal.flatten(), anomalous[~inside]])
    ordered = outside[:: math.ceil(len(outside) / _MAX_NORMAL_PIXELS)].sort().values
    rates = 1 - torch.searchsorted(ordered, anomalous[inside]).double() / len(ordered)
    overlap = torch.zeros_like(masks, dtype=torch.float64)
    overlap[inside] = (1 - rates / max_fpr).clamp(min=0)
    areas = inside.sum((1, 2, 3)).clamp(min=1)
    return (overlap.sum((1, 2, 3)) / areas).mean().item()
