"""Negative log-likelihood under Gaussian mixtures, fused."""

import torch
from torch import Tensor

from vtadl_ext import _ops, reference
from vtadl_ext._checks import check_number, check_option, checked_tensors

_SCALE_PARAMS = ("log_std", "std", "log_var", "var", "softplus")
_MIXTURES = ("logsumexp", "weighted")
_REDUCTIONS = ("mean", "sum", "none")


def gmm_nll(
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor,
    *,
    scale_param: str = "log_std",
    min_std: float = 0.0,
    mixture: str = "logsumexp",
    reduction: str = "mean",
) -> Tensor:
    r"""Negative log-likelihood of samples under Gaussian mixtures, in nats.

    .. math:: -\log \sum_k \pi_k \prod_d \mathcal N(x_d;\ \mu_{kd},\ \sigma_{kd}^2),
              \qquad \pi = \mathrm{softmax}(\text{logits})

    All leading dimensions ``*`` broadcast without copies; parameters without any are one mixture that all
    samples share. The result can be negative: a density may exceed 1. It is float32 for half-precision input.

    Args:
        x: samples, ``[*, D]``.
        logits: unnormalised log-weights of the components, ``[*, K]``. ``-inf`` masks a component; where all
            are masked the result is ``+inf`` with gradients 0.
        mu: means, ``[*, K, D]``, or ``[*, K, 1]`` for one mean in all dimensions.
        scale: ``[*, K, D]``, or ``[*, K, 1]`` for spherical components; read as `scale_param` says.
        scale_param: what `scale` holds: ``"log_std"``, ``"std"``, ``"log_var"``, ``"var"`` or ``"softplus"``
            (the standard deviation is ``softplus(scale)``).
        min_std: floor of the standard deviation. On the floor the gradient of `scale` is 0.
        mixture: ``"logsumexp"``, the likelihood; or ``"weighted"``,
            :math:`\sum_k \pi_k (-\log \mathcal N_k)`, an upper bound of it.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        A scalar, or ``[*]`` under ``reduction="none"``.

    Raises:
        TypeError: an argument is no tensor, or has another dtype than `x`.
        ValueError: a shape, device or option does not fit; the message names it.
    """
    x, logits, mu, scale = checked_tensors(x=x, logits=logits, mu=mu, scale=scale)
    _check_shapes(x, logits, mu, scale)
    check_option("scale_param", scale_param, _SCALE_PARAMS)
    check_option("mixture", mixture, _MIXTURES)
    check_option("reduction", reduction, _REDUCTIONS)
    check_number("min_std", min_std, zero_allowed=True)
    if not _ops.has_kernels(x.device):
        return reference.gmm_nll(
            *(x, logits, mu, scale),
            scale_param=scale_param,
            min_std=min_std,
            mixture=mixture,
            reduction=reduction,
        )
    options = (_SCALE_PARAMS.index(scale_param), float(min_std), mixture == "weighted")
    log_prob: Tensor = _ops.GMMLogProb.apply(x, logits, mu, scale, *options)[0]
    if reduction == "none":
        return -log_prob
    return -(log_prob.mean() if reduction == "mean" else log_prob.sum())


def _check_shapes(x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor) -> None:
    if x.dim() < 1 or x.shape[-1] < 1:
        raise ValueError(f"x must have shape [*, D] with D >= 1, got {list(x.shape)}")
    if logits.dim() < 1 or logits.shape[-1] < 1:
        raise ValueError(f"logits must have shape [*, K] with K >= 1, got {list(logits.shape)}")
    components, features = logits.shape[-1], x.shape[-1]
    for name, tensor in (("mu", mu), ("scale", scale)):
        if tuple(tensor.shape[-2:]) not in {(components, features), (components, 1)}:
            raise ValueError(
                f"{name} must have shape [*, {components}, {features}] or [*, {components}, 1], with K = "
                f"{components} from logits and D = {features} from x, got {list(tensor.shape)}"
            )
    leading = x.shape[:-1]
    for name, sizes in (("logits", logits.shape[:-1]), ("mu", mu.shape[:-2]), ("scale", scale.shape[:-2])):
        try:
            leading = torch.broadcast_shapes(leading, sizes)
        except RuntimeError:
            raise ValueError(
                f"{name} has leading dimensions {list(sizes)}, which do not broadcast with {list(leading)}"
            ) from None
