"""The operators of Gaussian mixtures: fake kernels, vmap rules and autograd functions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vtadl_ext import _binary, _fallback
from vtadl_ext._autograd import gradients, needs_autograd, save_for_loss, saved_by_loss
from vtadl_ext._binary import NO_MIXTURE, TRIL, accumulate_dtype
from vtadl_ext._options import GMMKernelOptions
from vtadl_ext._shapes import align, batch_first, broadcast_shapes, with_batch_dims


def event_dims_of(scale_param: int) -> tuple[int, int, int, int]:
    """The number of dimensions of x, logits, mu and scale behind the leading ones."""
    return 1, 1, 2, 3 if scale_param == TRIL else 2


def batch_shape_of(inputs: Sequence[Tensor], scale_param: int) -> torch.Size:
    """The leading dimensions of x, logits, mu and scale, broadcast."""
    event_dims = event_dims_of(scale_param)
    return broadcast_shapes(
        *(tensor.shape[: tensor.dim() - dims] for tensor, dims in zip(inputs, event_dims, strict=True))
    )


# ---------------------------------------------------------------------------------------------- fake kernels


@torch.library.register_fake("vtadl_ext::gmm_forward")
def _(x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    scale_param, _, mixture, *keeps_components = options
    batch_shape = batch_shape_of((x, logits, mu, scale), scale_param)
    log_prob_shape = (0,) if mixture == NO_MIXTURE else batch_shape
    components_shape = (*batch_shape, logits.shape[-1]) if all(keeps_components) else (0,)
    dtype = accumulate_dtype(x.dtype)
    return x.new_empty(log_prob_shape, dtype=dtype), x.new_empty(components_shape, dtype=dtype)


@torch.library.register_fake("vtadl_ext::gmm_backward")
def _(grad: Tensor, log_prob: Tensor, component_log_prob: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    return _empty_grads(arguments[:4], component_log_prob.shape[:-1], arguments[-4:])


@torch.library.register_fake("vtadl_ext::gmm_forward_backward")
def _(grad: float, *arguments: Any) -> tuple[Tensor, ...]:
    inputs, scale_param, needed = arguments[:4], arguments[4], arguments[-4:]
    batch_shape = batch_shape_of(inputs, scale_param)
    return _empty_log_prob(inputs[0], batch_shape), *_empty_grads(inputs, batch_shape, needed)


@torch.library.register_fake("vtadl_ext::gmm_forward_backward_")
def _(grad: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs, scale_param, needs_x = arguments[:4], arguments[4], arguments[-1]
    batch_shape = batch_shape_of(inputs, scale_param)
    grad_x, grad_logits, *_ = _empty_grads(inputs, batch_shape, (needs_x, True, False, False))
    return _empty_log_prob(inputs[0], batch_shape), grad_x, grad_logits


def _empty_log_prob(x: Tensor, batch_shape: torch.Size) -> Tensor:
    return x.new_empty(batch_shape, dtype=accumulate_dtype(x.dtype))


def _empty_grads(
    inputs: Sequence[Tensor], batch_shape: Sequence[int], needed: Sequence[bool]
) -> tuple[Tensor, ...]:
    """The gradients of mu and scale have their shapes. Those of x and logits have a row for each sample."""
    x, logits, mu, scale = inputs
    dtype = accumulate_dtype(x.dtype)
    needs_x, needs_logits, needs_mu, needs_scale = needed
    return (
        x.new_empty((*batch_shape, x.shape[-1]) if needs_x else (0,), dtype=dtype),
        x.new_empty((*batch_shape, logits.shape[-1]) if needs_logits else (0,), dtype=dtype),
        mu.new_empty(mu.shape if needs_mu else (0,)),
        scale.new_empty(scale.shape if needs_scale else (0,)),
    )


# ------------------------------------------------------------------------------------------------------ vmap


@torch.library.register_vmap("vtadl_ext::gmm_forward")
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    inputs, options = arguments[:4], arguments[4:]
    scale_param, _, mixture, *keeps_components = options
    dims = list(zip(inputs, in_dims[:4], event_dims_of(scale_param), strict=True))
    rank = max(tensor.dim() - (dim is not None) - event_dims for tensor, dim, event_dims in dims)
    aligned = [
        # A tensor without a batch dimension broadcasts.
        tensor if dim is None else align(tensor.movedim(dim, 0), info.batch_size, rank, event_dims)
        for tensor, dim, event_dims in dims
    ]
    log_prob, component_log_prob = _binary.ops.gmm_forward(*aligned, *options)
    if not all(keeps_components):
        component_log_prob = component_log_prob.expand(info.batch_size, 0)
    if mixture == NO_MIXTURE:
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
        for tensor, event_dims in zip(inputs, event_dims_of(options[0]), strict=True)
    ]
    grad_x, grad_logits, grad_mu, grad_scale = _binary.ops.gmm_backward(
        grad, log_prob, component_log_prob, *aligned, *options, *needed
    )
    if needed[2]:
        grad_mu = grad_mu.reshape(inputs[2].shape)
    if needed[3]:
        grad_scale = grad_scale.reshape(inputs[3].shape)
    return with_batch_dims((grad_x, grad_logits, grad_mu, grad_scale), needed, info.batch_size)


# -------------------------------------------------------------------------------------------------- autograd


def gmm_log_prob(*arguments: Any) -> Tensor:
    """log_prob of each sample, ``[*]``."""
    if needs_autograd(arguments[:4]):
        return GMMLogProb.apply(*arguments)[0]  # type: ignore[no-any-return]
    return _binary.ops.gmm_forward(*arguments, False)[0]  # type: ignore[no-any-return]


def _gmm_gradients(
    grad: Tensor,
    inputs: Sequence[Tensor],
    options: GMMKernelOptions,
    needed: Sequence[bool],
    results: Sequence[Tensor],
) -> tuple[Tensor | None, ...]:
    """The gradients of x, logits, mu and scale, from that of the result of the forward pass."""

    def operator(grad: Tensor, *tensors: Tensor) -> list[Tensor]:
        inputs, results = tensors[:4], tensors[4:]
        grads = _binary.ops.gmm_backward(grad, *results, *inputs, *options, *needed)
        return [part for part in _sum_to_inputs(grads, inputs, needed) if part is not None]

    return gradients(operator, partial(_fallback.gmm_formula, options), grad, inputs, needed, results)


def _sum_to_inputs(
    grads: Sequence[Tensor], inputs: Sequence[Tensor], needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    # The operators return a row for each sample for x and logits, which samples may share.
    return tuple(
        grad.sum_to_size(tensor.shape).to(tensor.dtype) if need else None
        for grad, tensor, need in zip(grads, inputs, needed, strict=True)
    )


class GMMLogProb(torch.autograd.Function):
    """log_prob, and log N_k for the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        return _binary.ops.gmm_forward(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # they would be zeros for log N_k
        ctx.save_for_backward(*output, *inputs[:4])
        ctx.options = GMMKernelOptions(*inputs[4:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 7
        saved = ctx.saved_tensors  # read once, because torch.utils.checkpoint allows no more
        results, inputs = saved[:2], saved[2:]
        needed = ctx.needs_input_grad[:4]
        return *_gmm_gradients(grad, inputs, ctx.options, needed, results), None, None, None


class GMMComponentLogProb(torch.autograd.Function):
    """log N_k of each sample under each component, ``[*, K]``, which does not depend on the logits."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor, scale_param: int, min_std: float
    ) -> Tensor:
        options = GMMKernelOptions(scale_param, min_std, NO_MIXTURE)
        return _binary.ops.gmm_forward(x, logits, mu, scale, *options)[1]  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.scale_options = inputs[4:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needs_x, _, needs_mu, needs_scale = ctx.needs_input_grad[:4]
        needed = (needs_x, False, needs_mu, needs_scale)
        # The operator needs the shape of log N_k alone, which its gradient has too.
        results = (grad.new_empty(0), grad)
        scale_param, min_std = ctx.scale_options
        options = GMMKernelOptions(scale_param, min_std, NO_MIXTURE)
        return *_gmm_gradients(grad, ctx.saved_tensors, options, needed, results), None, None


class GMMLoss(torch.autograd.Function):
    """Σ -log_prob / `divisor`, with the gradients computed in the forward pass.

    The first backward pass takes them. Later ones over the same graph, those that are differentiated
    themselves, and batches of them compute their own. The backward pass changes the context, which only
    eager mode allows.
    """

    @staticmethod
    def forward(ctx: Any, divisor: int, *arguments: Any) -> Tensor:
        log_prob, *grads = _binary.ops.gmm_forward_backward(
            -1 / max(divisor, 1), *arguments, *ctx.needs_input_grad[1:5]
        )
        save_for_loss(ctx, arguments[:4], grads)
        ctx.divisor, ctx.options = divisor, GMMKernelOptions(*arguments[4:])
        return log_prob.sum() / -divisor  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:5]
        inputs, saved_grads = saved_by_loss(ctx, grad, needed)
        if saved_grads is not None:
            grads = _sum_to_inputs(saved_grads, inputs, needed)
        else:
            with torch.no_grad():
                results = _binary.ops.gmm_forward(*inputs, *ctx.options)
            sample_grad = (-grad / ctx.divisor).expand(results[0].shape)
            grads = _gmm_gradients(sample_grad, inputs, ctx.options, needed, results)
        return None, *grads, *[None] * len(ctx.options)
