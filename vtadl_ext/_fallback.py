"""The way of the operators to :mod:`vtadl_ext.reference`, which the package imports only to expose it.

The reference computes what the kernels do not serve: tensors on other devices, volumes, everything within
:func:`vtadl_ext.use_reference`, forward mode, and the derivatives of gradients. The derivatives of gradients
are those of a formula below, which states in differentiable operations what an operator computes. A formula
takes the upstream gradient, or None, before the inputs: where that is 0, samples without a finite value are
ignored, as the kernels ignore them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vtadl_ext import reference
from vtadl_ext._binary import MIXTURES, NO_MIXTURE, SCALE_PARAM_NAMES, TRIL
from vtadl_ext._options import GMMKernelOptions, HeadOptions, ScaleOptions
from vtadl_ext._ssim_options import COMPONENTS, SSIMKernelOptions, SSIMOptions
from vtadl_ext._types import ReconstructionTerms
from vtadl_ext.reference import linear_gmm_nll
from vtadl_ext.reference._reductions import widen
from vtadl_ext.reference.gmm import component_log_probs, ignore_samples
from vtadl_ext.reference.ssim import window_index

__all__ = [
    "gmm_formula",
    "gmm_log_prob",
    "gmm_nll",
    "gmm_responsibilities",
    "linear_gmm_formula",
    "linear_gmm_nll",
    "ms_ssim",
    "reconstruction_loss",
    "ssim",
    "ssim_formula",
]


def gmm_nll(tensors: dict[str, Tensor], options: ScaleOptions, **others: Any) -> Tensor:
    arguments: dict[str, Any] = {**tensors, **options._asdict(), **others}
    return reference.gmm_nll(**arguments)


def gmm_log_prob(tensors: dict[str, Tensor], options: ScaleOptions) -> Tensor:
    return -gmm_nll(tensors, options, reduction="none")


def gmm_responsibilities(tensors: dict[str, Tensor], options: ScaleOptions) -> Tensor:
    arguments: dict[str, Any] = {**tensors, **options._asdict()}
    return reference.gmm_responsibilities(**arguments)


def ssim(x: Tensor, y: Tensor, options: SSIMOptions, mask: Tensor | None, reduction: str) -> Tensor:
    return reference.ssim(x, y, **options._asdict(), mask=mask, reduction=reduction)


def ms_ssim(x: Tensor, y: Tensor, options: SSIMOptions, weights: Sequence[float], odd_sides: str) -> Tensor:
    """``[N]``."""
    arguments = _of_window(options)
    return reference.ms_ssim(x, y, **arguments, weights=weights, odd_sides=odd_sides, reduction="none")


def reconstruction_loss(
    x: Tensor, y: Tensor, options: SSIMOptions, weights: dict[str, float], return_terms: bool
) -> Tensor | tuple[Tensor, ReconstructionTerms]:
    arguments: dict[str, Any] = {**weights, **_of_window(options)}
    return reference.reconstruction_loss(x, y, **arguments, return_terms=return_terms)


def _of_window(options: SSIMOptions) -> dict[str, Any]:
    """The options that all functions of SSIM have."""
    others = ("padding", "component", "use_sample_covariance")
    return {name: value for name, value in options._asdict().items() if name not in others}


def gmm_formula(
    options: GMMKernelOptions, grad: Tensor | None, x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor
) -> Tensor:
    """log_prob, ``[*]``, or with NO_MIXTURE log N_k of each component, ``[*, K]``."""
    scale_param, _, mixture = options
    function = partial(_gmm_log_prob, options)
    inputs, event_dims = (x, logits, mu, scale), (1, 1, 2, 3 if scale_param == TRIL else 2)
    if mixture != NO_MIXTURE:
        return _ignoring(lambda value: ~value.isfinite(), function, grad, inputs, event_dims)
    return _ignoring(Tensor.isnan, function, grad, inputs, event_dims, dim=-1)


def _gmm_log_prob(
    options: GMMKernelOptions, x: Tensor, logits: Tensor, mu: Tensor, scale_or_tril: Tensor
) -> Tensor:
    param, min_std, mixture = options
    scale, tril = (None, scale_or_tril) if param == TRIL else (scale_or_tril, None)
    scale_param = "log_std" if param == TRIL else SCALE_PARAM_NAMES[param]
    if mixture == NO_MIXTURE:
        return component_log_probs(x, logits, mu, scale, tril, scale_param, min_std)[1]
    return -reference.gmm_nll(
        *(x, logits, mu, scale),
        scale_tril=tril,
        scale_param=scale_param,
        min_std=min_std,
        mixture=MIXTURES[mixture],
        reduction="none",
    )


def linear_gmm_formula(
    options: HeadOptions,
    grad: Tensor | None,
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """log_prob of each row, ``[N]``, from mixtures that are whole in memory."""
    dtype = options.dtype

    def log_prob(x: Tensor, h: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return -linear_gmm_nll(
                x.to(torch.promote_types(x.dtype, dtype)),
                h.to(dtype),
                weight.to(dtype),
                None if bias is None else bias.to(dtype),
                num_components=options.num_components,
                scale_param=SCALE_PARAM_NAMES[options.scale_param],
                min_std=options.min_std,
                mixture=MIXTURES[options.mixture],
                shared_scale=options.shared_scale,
                reduction="none",
            )

    return _ignoring(lambda value: ~value.isfinite(), log_prob, grad, (x, h), (1, 1))


def _ignoring(
    is_undefined: Callable[[Tensor], Tensor],
    function: Callable[..., Tensor],
    grad: Tensor | None,
    inputs: Sequence[Tensor],
    event_dims: Sequence[int],
    dim: int | None = None,
) -> Tensor:
    """The function of the inputs without the samples that the kernels ignore.

    These have undefined values and upstream gradients of 0, in all of dimension `dim` where that is given.
    """
    if grad is None:
        return function(*inputs)
    with torch.no_grad():
        ignored = (grad == 0) & is_undefined(function(*inputs))
    return function(*ignore_samples(ignored if dim is None else ignored.all(dim), inputs, event_dims))


def ssim_formula(
    options: SSIMKernelOptions, grad: Tensor | None, x: Tensor, y: Tensor, mask: Tensor | None
) -> Tensor:
    """The component of each window, or the sums over each plane, ``[N, C, 4]``."""
    vertical, horizontal, data_range, k1, k2, bordered, component, map, errors = options
    index, has_valid = window_index(
        *(x, y, (vertical, horizontal), data_range, k1, k2, "same" if bordered else "valid", mask),
        component=COMPONENTS[component],
    )
    if map:
        return index
    difference = widen(x) - widen(y) if errors else torch.zeros_like(index)
    terms = (index, has_valid.to(index.dtype), difference.square(), difference.abs())
    return torch.stack([term.sum((-2, -1)) for term in terms], dim=-1)
