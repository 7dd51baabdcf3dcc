"""Samples of Gaussian mixtures, in PyTorch's own operations on every device."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vtadl_ext._binary import accumulate_dtype
from vtadl_ext._options import ScaleOptions
from vtadl_ext._scale_params import standard_deviation
from vtadl_ext._shapes import broadcast_shapes


@torch.no_grad()
def sample_mixture(
    tensors: dict[str, Tensor],
    options: ScaleOptions,
    *,
    temperature: float,
    sample_shape: Sequence[int],
    generator: torch.Generator | None,
) -> Tensor:
    """Samples ``[*sample_shape, *, D]`` of the mixtures of logits, mu, and scale or scale_tril."""
    result_dtype = tensors["mu"].dtype
    dtype = accumulate_dtype(result_dtype)
    logits, mu, scale = (tensor.to(dtype) for tensor in tensors.values())
    is_tril = "scale_tril" in tensors
    scale_dims = 3 if is_tril else 2
    batch_shape = broadcast_shapes(logits.shape[:-1], mu.shape[:-2], scale.shape[:-scale_dims])
    shape, features = (*sample_shape, *batch_shape), max(mu.shape[-1], scale.shape[-1])
    if 0 in shape:
        return mu.new_empty((*shape, features), dtype=result_dtype)

    probs = _apply_temperature(logits, temperature).softmax(-1)
    undefined = probs.isnan().any(-1, keepdim=True)  # all components are masked, or a logit is NaN
    probs = torch.where(undefined, 1.0, probs).expand(*batch_shape, -1)
    component = _sample_components(probs, sample_shape, generator)
    noise = torch.randn((*shape, features), generator=generator, dtype=dtype, device=mu.device)
    chosen = _parameter_of(component, scale, scale_dims)
    if is_tril:
        # A matrix product could be rounded, in TF32 or by autocast.
        deviation = (chosen.tril() * noise.unsqueeze(-2)).sum(-1)
    else:
        deviation = standard_deviation(chosen, *options) * noise
    samples = _parameter_of(component, mu, 2) + math.sqrt(temperature) * deviation
    return torch.where(undefined, math.nan, samples).to(result_dtype)


def _apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 1:
        return logits
    if temperature > torch.finfo(logits.dtype).tiny:
        return (logits - logits.amax(-1, keepdim=True)) / temperature
    # The limit is the likeliest component alone: the first of several.
    likeliest = logits.argmax(-1, keepdim=True)
    return torch.full_like(logits, -math.inf).scatter(-1, likeliest, logits.gather(-1, likeliest))


def _sample_components(
    probs: Tensor, sample_shape: Sequence[int], generator: torch.Generator | None
) -> Tensor:
    """The index of a component for each sample, ``[*sample_shape, *]``."""
    *batch_shape, components = probs.shape
    rows, count = probs.reshape(-1, components), math.prod(sample_shape)
    if count == 1:
        # torch.multinomial would do the same after it has checked the numbers, which waits for a GPU.
        arrival_times = torch.empty_like(rows).exponential_(generator=generator)
        return (rows / arrival_times).argmax(-1).reshape((*sample_shape, *batch_shape))
    drawn = torch.multinomial(rows, count, replacement=True, generator=generator)
    return drawn.T.reshape((*sample_shape, *batch_shape))


def _parameter_of(component: Tensor, parameter: Tensor, event_dims: int) -> Tensor:
    """The values of a parameter, ``[*, K or 1, event]``, for the component of each sample."""
    event = parameter.shape[1 - event_dims :]
    if parameter.shape[-event_dims] == 1:  # all components share it
        return parameter.squeeze(-event_dims).expand(*component.shape, *event)
    parameter = parameter.expand(*component.shape, *parameter.shape[-event_dims:])
    index = component.reshape(*component.shape, *[1] * event_dims).expand(*component.shape, 1, *event)
    return parameter.gather(-event_dims, index).squeeze(-event_dims)
