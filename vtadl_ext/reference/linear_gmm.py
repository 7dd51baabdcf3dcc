"""The mixture operator that includes its linear head, in plain PyTorch."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from vtadl_ext.reference.gmm import gmm_nll


class HeadRows(NamedTuple):
    """How many rows of a head's weight belong to the logits, mu and scale, in this order."""

    logits: int  # K
    mu: int  # K * D, feature by feature of one component after the other
    scale: int  # the same; K for spherical ones; D, or 1, where all components share one


def mixture_of(parameters: tuple[Tensor, ...], shared_scale: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Logits ``[*, K]``, mu ``[*, K, D]`` and scale, as :func:`gmm_nll` takes them, of what the rows give."""
    logits, mu, scale = parameters
    components = logits.shape[-1]
    return (
        logits,
        mu.unflatten(-1, (components, -1)),
        scale.unflatten(-1, (1 if shared_scale else components, -1)),
    )


def linear_gmm_nll(
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    num_components: int,
    scale_param: str = "log_std",
    min_std: float = 0.0,
    mixture: str = "logsumexp",
    shared_scale: bool = False,
    memory_budget: int | None = None,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Reference of :func:`vtadl_ext.linear_gmm_nll`. It needs memory for all rows at once."""
    means = num_components * x.shape[-1]
    rows = HeadRows(num_components, means, weight.shape[0] - num_components - means)
    if sample_weight is not None:  # 0 times NaN would be NaN in the gradient of the weight
        h = h.masked_fill((sample_weight == 0).unsqueeze(-1) & ~h.isfinite(), 0)
    parameters = F.linear(h, weight, bias).split(rows, -1)
    return gmm_nll(
        x,
        *mixture_of(parameters, shared_scale),
        scale_param=scale_param,
        min_std=min_std,
        mixture=mixture,
        sample_weight=sample_weight,
        reduction=reduction,
    )
