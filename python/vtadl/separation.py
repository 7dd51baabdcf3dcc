"""How often an anomalous score exceeds a normal one."""

import torch
from torch import Tensor


def auroc(normal: Tensor, anomalous: Tensor) -> float:
    """Probability that an anomalous score exceeds a normal one, ties counting half; 0.5 without either."""
    if not len(normal) or not len(anomalous):
        return 0.5
    ordered = normal.sort().values
    below, up_to = (
        torch.searchsorted(ordered, anomalous.contiguous(), right=right) for right in (False, True)
    )
    return (below + up_to).double().mean().item() / (2 * len(normal))
