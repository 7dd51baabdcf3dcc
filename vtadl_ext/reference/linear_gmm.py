"""The mixture operator that includes its linear head, in plain PyTorch."""

import torch.nn.functional as F
from torch import Tensor

from vtadl_ext.reference.gmm import gmm_nll


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
    if sample_weight is not None:  # 0 times NaN would be NaN in the gradient of the weight
        h = h.masked_fill((sample_weight == 0).unsqueeze(-1) & ~h.isfinite(), 0)
    means = num_components * x.shape[-1]
    sizes = (num_components, means, weight.shape[0] - num_components - means)
    logits, mu, scale = F.linear(h, weight, bias).split(sizes, -1)
    return gmm_nll(
        x,
        logits,
        mu.unflatten(-1, (num_components, -1)),
        scale.unflatten(-1, (1 if shared_scale else num_components, -1)),
        scale_param=scale_param,
        min_std=min_std,
        mixture=mixture,
        sample_weight=sample_weight,
        reduction=reduction,
    )
