"""The operators of Gaussian mixtures: fake kernels, vmap rules and autograd functions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vtadl_ext import _binary, reference
from vtadl_ext._autograd import claim_grads, gradients, needs_autograd
from vtadl_ext._binary import MIXTURES, NO_MIXTURE, SCALE_PARAM_NAMES, TRIL, accumulate_dtype
from vtadl_ext._shapes import align, batch_first, broadcast_shapes, claim_batch
from vtadl_ext.reference.gmm import log_components, without


@torch.library.register_fake("vtadl_ext::gmm_forward")
def _(
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor,
    scale_param: int,
    min_std: float,
    mixture: int,
    keeps_components: bool = True,
) -> tuple[Tensor, Tensor]:
    samples = gmm_samples((x, logits, mu, scale), scale_param)
    dtype = accumulate_dtype(x.dtype)
    log_prob = x.new_empty((0,) if mixture == NO_MIXTURE else samples, dtype=dtype)
    components = (*samples, logits.shape[-1]) if keeps_components else (0,)
    return log_prob, x.new_empty(components, dtype=dtype)


@torch.library.register_fake("vtadl_ext::gmm_backward")
def _(
    grad: Tensor,
    log_prob: Tensor,
    component_log_prob: Tensor,
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor,
    scale_param: int,
    min_std: float,
    mixture: int,
    *needs: bool,
) -> tuple[Tensor, ...]:
    return _empty_gmm_grads(x, logits, mu, scale, component_log_prob.shape[:-1], needs)


@torch.library.register_fake("vtadl_ext::gmm_forward_backward")
def _(
    grad: float,
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor,
    scale_param: int,
    min_std: float,
    mixture: int,
    *needs: bool,
) -> tuple[Tensor, ...]:
    samples = gmm_samples((x, logits, mu, scale), scale_param)
    log_prob = x.new_empty(samples, dtype=accumulate_dtype(x.dtype))
    return log_prob, *_empty_gmm_grads(x, logits, mu, scale, samples, needs)


@torch.library.register_fake("vtadl_ext::gmm_forward_backward_")
def _(
    grad: Tensor,
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor,
    scale_param: int,
    min_std: float,
    mixture: int,
    needs_x: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    samples = gmm_samples((x, logits, mu, scale), scale_param)
    log_prob = x.new_empty(samples, dtype=accumulate_dtype(x.dtype))
    grads = _empty_gmm_grads(x, logits, mu, scale, samples, (needs_x, True, False, False))
    return log_prob, *grads[:2]


def gmm_event_dims(scale_param: int) -> tuple[int, int, int, int]:
    """Dimensions of x, logits, mu and scale behind the leading ones."""
    return 1, 1, 2, 3 if scale_param == TRIL else 2


def gmm_samples(tensors: Sequence[Tensor], scale_param: int) -> torch.Size:
    """The leading dimensions of x, logits, mu and scale, broadcast."""
    described = zip(tensors, gmm_event_dims(scale_param), strict=True)
    return broadcast_shapes(*(tensor.shape[: tensor.dim() - dims] for tensor, dims in described))


def _empty_gmm_grads(
    x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor, samples: Sequence[int], needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = accumulate_dtype(x.dtype)
    needs_x, needs_logits, needs_mu, needs_scale = needs
    return (
        x.new_empty((*samples, x.shape[-1]) if needs_x else (0,), dtype=dtype),
        x.new_empty((*samples, logits.shape[-1]) if needs_logits else (0,), dtype=dtype),
        mu.new_empty(mu.shape if needs_mu else (0,)),
        scale.new_empty(scale.shape if needs_scale else (0,)),
    )


# ------------------------------------------------------------------------------------------------------ vmap


@torch.library.register_vmap("vtadl_ext::gmm_forward")
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    tensors, options = arguments[:4], arguments[4:]
    described = list(zip(tensors, in_dims[:4], gmm_event_dims(options[0]), strict=True))
    rank = max(tensor.dim() - (dim is not None) - event_dims for tensor, dim, event_dims in described)
    aligned = [
        # What is not batched broadcasts.
        tensor if dim is None else align(tensor.movedim(dim, 0), info.batch_size, rank, event_dims)
        for tensor, dim, event_dims in described
    ]
    log_prob, component_log_prob = _binary.ops.gmm_forward(*aligned, *options)
    if len(options) > 3 and not options[3]:
        component_log_prob = component_log_prob.expand(info.batch_size, 0)
    if options[2] == NO_MIXTURE:
        log_prob = log_prob.expand(info.batch_size, 0)
    return (log_prob, component_log_prob), (0, 0)


@torch.library.register_vmap("vtadl_ext::gmm_backward")
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    batched = [
        batch_first(tensor, dim, info.batch_size)
        for tensor, dim in zip(arguments[:7], in_dims[:7], strict=True)
    ]
    (grad, log_prob, component_log_prob), inputs = batched[:3], batched[3:]
    options, needed = arguments[7:-4], arguments[-4:]
    aligned = [
        align(tensor, info.batch_size, component_log_prob.dim() - 2, event_dims)
        for tensor, event_dims in zip(inputs, gmm_event_dims(options[0]), strict=True)
    ]
    grad_x, grad_logits, grad_mu, grad_scale = _binary.ops.gmm_backward(
        grad, log_prob, component_log_prob, *aligned, *options, *needed
    )
    if needed[2]:
        grad_mu = grad_mu.reshape(inputs[2].shape)
    if needed[3]:
        grad_scale = grad_scale.reshape(inputs[3].shape)
    return claim_batch((grad_x, grad_logits, grad_mu, grad_scale), needed, info.batch_size)


# -------------------------------------------------------------------------------------------------- autograd


def gmm_log_prob(*arguments: Any) -> Tensor:
    """log_prob of each sample, `[*]`."""
    if needs_autograd(arguments[:4]):
        return GMMLogProb.apply(*arguments)[0]  # type: ignore[no-any-return]
    return _binary.ops.gmm_forward(*arguments, False)[0]  # type: ignore[no-any-return]


def _formula(options: tuple[int, float, int], grad: Tensor | None, *inputs: Tensor) -> Tensor:
    """What the operator with these options computes: log_prob, or log N_k of each component.

    Samples without a value and without an upstream gradient are left out, as the kernels leave them out.
    """
    if grad is None:
        return _log_prob(options, *inputs)
    with torch.no_grad():
        value = _log_prob(options, *inputs)
        left_out = (grad == 0) & (value.isnan() if options[2] == NO_MIXTURE else ~value.isfinite())
        left_out = left_out.all(-1) if options[2] == NO_MIXTURE else left_out
    kept = zip(inputs, gmm_event_dims(options[0]), strict=True)
    return _log_prob(options, *(without(left_out, tensor, dims) for tensor, dims in kept))


def _log_prob(
    options: tuple[int, float, int], x: Tensor, logits: Tensor, mu: Tensor, spread: Tensor
) -> Tensor:
    scale_param, min_std, mixture = options
    scale, scale_tril = (None, spread) if scale_param == TRIL else (spread, None)
    param = "log_std" if scale_param == TRIL else SCALE_PARAM_NAMES[scale_param]
    if mixture == NO_MIXTURE:
        return log_components(x, logits, mu, scale, scale_tril, param, min_std)[1]
    return -reference.gmm_nll(
        *(x, logits, mu, scale),
        scale_tril=scale_tril,
        scale_param=param,
        min_std=min_std,
        mixture=MIXTURES[mixture],
        reduction="none",
    )


def _gmm_gradients(
    grad: Tensor,
    inputs: Sequence[Tensor],
    options: tuple[int, float, int],
    needed: Sequence[bool],
    results: Sequence[Tensor],
) -> tuple[Tensor | None, ...]:
    """Of x, logits, mu and scale, from that of log_prob and the results of the forward pass."""

    def operator(grad: Tensor, *tensors: Tensor) -> list[Tensor]:
        inputs, results = tensors[:4], tensors[4:]
        grads = _binary.ops.gmm_backward(grad, *results, *inputs, *options, *needed)
        return [part for part in _gmm_grads(inputs, needed, grads) if part is not None]

    return gradients(operator, partial(_formula, options), grad, inputs, needed, results)


def _gmm_grads(
    inputs: Sequence[Tensor], needed: Sequence[bool], grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    # Those of x and logits have a row for each sample, which samples may share.
    return tuple(
        grad.sum_to_size(tensor.shape).to(tensor.dtype) if need else None
        for grad, tensor, need in zip(grads, inputs, needed, strict=True)
    )


class GMMLogProb(torch.autograd.Function):
    """`(log_prob, component_log_prob)`; the latter serves the backward pass alone."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        return _binary.ops.gmm_forward(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # zeros for the component_log_prob
        ctx.save_for_backward(*output, *inputs[:4])
        ctx.options = inputs[4:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 7
        saved = ctx.saved_tensors  # asked for once: torch.utils.checkpoint allows no more
        results, inputs = saved[:2], saved[2:]
        needed = ctx.needs_input_grad[:4]
        return *_gmm_gradients(grad, inputs, ctx.options, needed, results), None, None, None


class GMMComponentLogProb(torch.autograd.Function):
    """log N_k of each sample under each component, `[*, K]`. The mixture's weights have no part in it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor, scale_param: int, min_std: float
    ) -> Tensor:
        options = (scale_param, min_std, NO_MIXTURE)
        return _binary.ops.gmm_forward(x, logits, mu, scale, *options)[1]  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.options = inputs[4:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needs_x, _, needs_mu, needs_scale = ctx.needs_input_grad[:4]
        needed = (needs_x, False, needs_mu, needs_scale)
        # Of what the forward pass returned only the shape is needed, which is that of its gradient.
        results = (grad.new_empty(0), grad)
        options = (*ctx.options, NO_MIXTURE)
        return *_gmm_gradients(grad, ctx.saved_tensors, options, needed, results), None, None


class GMMLoss(torch.autograd.Function):
    """Σ -log_prob / `divisor`, with the gradients computed in the forward pass.

    The first backward pass takes them. Another one over the same graph, one that is to be differentiated, or
    a batch of them computes its own. For eager mode alone: the context changes in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, divisor: int, *arguments: Any) -> Tensor:
        inputs, options = arguments[:4], arguments[4:]
        log_prob, *grads = _binary.ops.gmm_forward_backward(
            -1 / max(divisor, 1), *inputs, *options, *ctx.needs_input_grad[1:5]
        )
        ctx.save_for_backward(*inputs, *grads)
        ctx.divisor, ctx.options, ctx.grads_are_taken = divisor, options, False
        return log_prob.sum() / -divisor  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:5]
        saved = ctx.saved_tensors  # asked for once: torch.utils.checkpoint allows no more
        inputs, grads = saved[:4], saved[4:]
        claimed = claim_grads(ctx, grads, needed, grad)
        if claimed is not None:
            return None, *_gmm_grads(inputs, needed, claimed), None, None, None
        with torch.no_grad():
            results = _binary.ops.gmm_forward(*inputs, *ctx.options)
        sample_grad = (-grad / ctx.divisor).expand(results[0].shape)
        return None, *_gmm_gradients(sample_grad, inputs, ctx.options, needed, results), None, None, None
