"""Helpers that the autograd functions of all operators share.

The kernels compute first derivatives in reverse mode. Formulas in differentiable operations serve all other
derivatives: forward mode from the start (`kernels_serve`), and derivatives of gradients when they are taken
(`gradients`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from vtadl_ext import _binary

# Whether a transformation of torch.func is active. A PyTorch that does not say may have one.
functorch_is_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
# The active transformations. The operators compose with vmap and grad.
_transforms = getattr(torch._C._functorch, "get_interpreter_stack", None)
_COMPOSABLE = {"Vmap", "Grad"}
# Whether a gradient belongs to torch.autograd.grad(..., is_grads_batched=True).
_is_legacy_batched = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda _: True)

Formula = Callable[..., Tensor]  # takes the upstream gradient and the inputs, as those in _fallback.py do
Operator = Callable[..., Sequence[Tensor]]


def kernels_serve(*tensors: Tensor | None, stacklevel: int = 4) -> bool:
    """Whether the kernels serve these tensors and the derivatives that may be taken of the result."""
    return not _needs_reference(tensors) and _binary.has_kernels(_device(tensors), stacklevel)


def _device(tensors: Sequence[Tensor | None]) -> torch.device:
    return next(tensor.device for tensor in tensors if tensor is not None)


def _needs_reference(tensors: Sequence[Tensor | None]) -> bool:
    """Whether this is forward mode, or another transformation that does not compose with autograd.Function.

    Where torch.compile traces a transformation of torch.func, it drops the gradients of a Function, or fails.
    """
    in_dual_level = getattr(forward_ad, "_current_level", 0) >= 0
    if torch.compiler.is_compiling():
        return in_dual_level or functorch_is_active()
    if functorch_is_active():
        return in_dual_level or not _is_composable()
    return in_dual_level and any(
        tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors
    )


def _is_composable() -> bool:
    return _transforms is not None and all(
        transform.key().name in _COMPOSABLE for transform in _transforms() or ()
    )


class _Gradients(torch.autograd.Function):
    """Gradients from a backward operator. Their own derivatives, of any order, are those of the formula."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        operator: Operator, formula: Formula, needed: tuple[bool, ...], grad: Tensor, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        return tuple(operator(grad, *tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, ctx.formula, ctx.needed, *tensors = inputs
        ctx.save_for_backward(*tensors[: 1 + len(ctx.needed)])
        ctx.others = len(tensors) - 1 - len(ctx.needed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        def gradients_of(grad: Tensor, *inputs: Tensor | None) -> tuple[Tensor, ...]:
            return _formula_gradients(ctx.formula, ctx.needed, grad, inputs)

        saved = ctx.saved_tensors  # read once, because torch.utils.checkpoint allows no more
        differentiable = [tensor is not None and tensor.is_floating_point() for tensor in saved]
        found = _vjp(gradients_of, differentiable, grads, saved)
        return None, None, None, *_align(found, differentiable), *[None] * ctx.others


def gradients(
    operator: Operator,
    formula: Formula,
    grad: Tensor,
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    results: Sequence[Tensor] = (),
) -> tuple[Tensor | None, ...]:
    """The gradients of the inputs that need one, and None for the others.

    Args:
        operator: takes `grad`, the inputs and the results, and returns the gradients that are needed.
        formula: takes `grad` and the inputs, and returns the result of the forward pass in differentiable
            operations.
        grad: the upstream gradient.
        inputs: the inputs of the forward pass.
        needed: which inputs need a gradient.
        results: the results of the forward pass that the operator takes.
    """
    needed = tuple(needed)
    if not any(needed):
        return (None,) * len(needed)
    if torch.compiler.is_compiling():  # it has first derivatives only, and does not nest Functions
        found = operator(grad, *inputs, *results)
    elif _needs_reference((grad, *inputs)):
        found = _formula_gradients(formula, needed, grad, inputs)
    elif _is_plain_backward(grad):
        found = operator(grad, *inputs, *results)
    elif torch.is_grad_enabled() and _is_legacy_batched(grad):  # a Function would keep no graph
        found = _legacy_gradients(formula, needed, grad, inputs)
    else:
        found = _Gradients.apply(operator, formula, needed, grad, *inputs, *results)
    return _align(found, needed)


def _formula_gradients(
    formula: Formula, needed: Sequence[bool], grad: Tensor, inputs: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    return _vjp(partial(formula, grad.detach()), needed, grad, inputs)


def _legacy_gradients(
    formula: Formula, needed: Sequence[bool], grads: Tensor, inputs: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """The gradients under a batch of upstream gradients, in the graph of the inputs."""
    # Through views, one input does not count as a function of another.
    inputs = [tensor if tensor is None else tensor.view_as(tensor) for tensor in inputs]
    value = formula(None, *inputs)
    leaves = [tensor for tensor, need in zip(inputs, needed, strict=True) if need and tensor is not None]
    return torch.autograd.grad(value, leaves, grads, create_graph=True)


def _vjp(
    function: Callable[..., Any], needed: Sequence[bool], grads: Any, inputs: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """The vector-Jacobian products of a function, for the inputs that need one."""

    def of_needed(*values: Tensor) -> Any:
        remaining = iter(values)
        return function(
            *(next(remaining) if need else value for value, need in zip(inputs, needed, strict=True))
        )

    values = [value for value, need in zip(inputs, needed, strict=True) if need]
    return torch.func.vjp(of_needed, *values)[1](grads)  # type: ignore[no-any-return]


def _align(values: Sequence[Tensor], needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """The values at the places that need one, and None at the others."""
    remaining = iter(values)
    return tuple(next(remaining) if need else None for need in needed)


def _is_plain_backward(grad: Tensor) -> bool:
    """Whether a backward pass is not differentiated itself, and has a single upstream gradient."""
    return not (torch.is_grad_enabled() or functorch_is_active() or _is_legacy_batched(grad))


def is_traced() -> bool:
    """Whether torch.jit.trace or make_fx records this call and would keep its sizes as constants."""
    return not torch.compiler.is_compiling() and (
        torch.jit.is_tracing() or _proxy_mode() is not None  # type: ignore[attr-defined]
    )


def _proxy_mode() -> Any:
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY)


def needs_autograd(tensors: Sequence[Tensor]) -> bool:
    """Whether autograd may need a graph of an operator on these tensors, as functorch always may."""
    return torch.is_grad_enabled() and (
        any(tensor.requires_grad for tensor in tensors) or functorch_is_active()
    )


def computes_grads_in_forward(tensors: Sequence[Tensor]) -> bool:
    """Whether a loss computes its gradients in the forward pass, while the cache holds the data.

    It does so where gradients will be taken in plain eager mode: the compiler, functorch and traces have
    backward passes of their own. In float16 it
    does not, because gradients would vanish before the factor of a loss scaler could reach them.
    """
    return (
        not torch.compiler.is_compiling()
        and not is_traced()
        and torch.is_grad_enabled()
        and any(tensor.requires_grad for tensor in tensors)
        and tensors[0].dtype != torch.float16
        and not functorch_is_active()
    )


def save_for_loss(ctx: Any, inputs: Sequence[Tensor | None], grads: Sequence[Tensor]) -> None:
    """Saves the inputs of a loss, and their gradients from the forward pass, for :func:`saved_by_loss`."""
    ctx.save_for_backward(*inputs, *grads)
    ctx.grads_are_taken = False


def saved_by_loss(
    ctx: Any, grad: Tensor, needed: Sequence[bool]
) -> tuple[Sequence[Tensor], Sequence[Tensor] | None]:
    """The inputs of a loss, and for its first backward pass the gradients of the forward pass times `grad`.

    Later backward passes over the same graph, those that are differentiated themselves, and batches of them
    get None, and compute their own gradients.
    """
    saved = ctx.saved_tensors  # read once, because torch.utils.checkpoint allows no more
    inputs, grads = saved[: -len(needed)], saved[-len(needed) :]
    if ctx.grads_are_taken or not _is_plain_backward(grad):
        return inputs, None
    ctx.grads_are_taken = True
    for tensor, need in zip(grads, needed, strict=True):
        if need:
            _binary.ops.scale_(tensor, grad)
    return inputs, [tensor.data for tensor in grads]  # in-place changes by users do not concern autograd


def where_needed(grads: Sequence[Tensor], needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    return tuple(grad if need else None for grad, need in zip(grads, needed, strict=True))


@torch.library.register_fake("vtadl_ext::scale_")
def _(tensor: Tensor, factor: Tensor) -> None:
    return None
