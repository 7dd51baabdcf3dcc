"""What the autograd functions of all operators share.

The kernels serve first derivatives in reverse mode. The formulas of `vtadl_ext.reference` serve all others:
forward mode from the start (`kernels_serve`), and derivatives of gradients when they are taken (`gradients`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from vtadl_ext import _binary

# Whether one of torch.func's transformations is at work; where nobody can tell, it may be.
functorch_is_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
# Those at work, of which vmap and grad can be composed with the operators.
_transforms = getattr(torch._C._functorch, "get_interpreter_stack", None)
_COMPOSABLE = {"Vmap", "Grad"}
# The same for the gradients that torch.autograd.grad takes for its is_grads_batched.
_is_legacy_batched = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda _: True)

Formula = Callable[..., Tensor]  # what the reference makes of the inputs, for an upstream gradient
Operator = Callable[..., Sequence[Tensor]]


def kernels_serve(*tensors: Tensor | None, stacklevel: int = 4) -> bool:
    """Whether the kernels serve these tensors, and the derivatives that may be taken of what comes out."""
    return not _needs_reference(tensors) and _binary.has_kernels(_device(tensors), stacklevel)


def _device(tensors: Sequence[Tensor | None]) -> torch.device:
    return next(tensor.device for tensor in tensors if tensor is not None)


def _needs_reference(tensors: Sequence[Tensor | None]) -> bool:
    """Whether this is forward mode, or another transformation that no autograd.Function can be part of.

    torch.compile drops the gradients of a Function, or fails, where it traces a transformation of torch.func.
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
    """Gradients by a backward operator, whose own derivatives of any order are those of the formula's."""

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

        saved = ctx.saved_tensors  # asked for once: torch.utils.checkpoint allows no more
        every = [tensor is not None and tensor.is_floating_point() for tensor in saved]
        of_tensors = _pull_back(gradients_of, every, grads, saved)
        return None, None, None, *_spread(of_tensors, every), *[None] * ctx.others


def gradients(
    operator: Operator,
    formula: Formula,
    grad: Tensor,
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    results: Sequence[Tensor] = (),
) -> tuple[Tensor | None, ...]:
    """The gradients of the inputs that need one, None for the others.

    Args:
        operator: takes `grad`, the inputs and the results; returns the gradients that are needed.
        formula: takes `grad`, to leave out what it is 0 of, and the inputs; returns what it is the gradient
            of, in differentiable operations.
        grad: upstream gradient.
        inputs: of the forward pass.
        needed: which of them need a gradient.
        results: of the forward pass, as far as the operator wants them.
    """
    needed = tuple(needed)
    if not any(needed):
        return (None,) * len(needed)
    if torch.compiler.is_compiling():  # which has first derivatives only, and Functions that are not nested
        found = operator(grad, *inputs, *results)
    elif _needs_reference((grad, *inputs)):
        found = _formula_gradients(formula, needed, grad, inputs)
    elif _is_plain_backward(grad):
        found = operator(grad, *inputs, *results)
    elif torch.is_grad_enabled() and _is_legacy_batched(grad):  # of which a Function keeps no graph
        found = _legacy_gradients(formula, needed, grad, inputs)
    else:
        found = _Gradients.apply(operator, formula, needed, grad, *inputs, *results)
    return _spread(found, needed)


def _formula_gradients(
    formula: Formula, needed: Sequence[bool], grad: Tensor, inputs: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    return _pull_back(partial(formula, grad.detach()), needed, grad, inputs)


def _legacy_gradients(
    formula: Formula, needed: Sequence[bool], grads: Tensor, inputs: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """Those of a batch of upstream gradients, part of the graph of the inputs."""
    # Views: what one input has to do with another is not to be differentiated here.
    inputs = [tensor if tensor is None else tensor.view_as(tensor) for tensor in inputs]
    value = formula(None, *inputs)
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need and tensor is not None]
    return torch.autograd.grad(value, wanted, grads, create_graph=True)


def _pull_back(
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


def _spread(values: Sequence[Tensor], needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    remaining = iter(values)
    return tuple(next(remaining) if need else None for need in needed)


def _is_plain_backward(grad: Tensor) -> bool:
    """Whether a backward pass is neither to be differentiated nor one of a batch."""
    return not (torch.is_grad_enabled() or functorch_is_active() or _is_legacy_batched(grad))


def is_traced() -> bool:
    """Whether torch.jit.trace or make_fx records this call, and would keep its sizes as constants."""
    return not torch.compiler.is_compiling() and (
        torch.jit.is_tracing() or _proxy_mode() is not None  # type: ignore[attr-defined]
    )


def _proxy_mode() -> Any:
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY)


def needs_autograd(tensors: Sequence[Tensor]) -> bool:
    """Whether an operator has to be seen by autograd; what is inside of functorch may be, all of it."""
    return torch.is_grad_enabled() and (
        any(tensor.requires_grad for tensor in tensors) or functorch_is_active()
    )


def takes_gradients_along(tensors: Sequence[Tensor]) -> bool:
    """Whether a reduced result computes its gradients in the forward pass, while the cache has the data.

    That needs gradients that will be taken, and plain eager mode: the compiler, functorch and traces have
    backward passes of their own. Half precision would round the gradients before the factor of a loss scaler,
    which is there to keep them from vanishing, could reach them.
    """
    return (
        not torch.compiler.is_compiling()
        and not is_traced()
        and torch.is_grad_enabled()
        and any(tensor.requires_grad for tensor in tensors)
        and tensors[0].dtype != torch.float16
        and not functorch_is_active()
    )


def claim_grads(
    ctx: Any, grads: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> Sequence[Tensor] | None:
    """The gradients that a loss made in its forward pass, times its own, for the first backward pass.

    None, and nothing done, in another one over the same graph, in one that is to be differentiated, and in a
    batch of them: these have to compute their own.
    """
    if ctx.grads_are_taken or not _is_plain_backward(grad):
        return None
    ctx.grads_are_taken = True
    for tensor, need in zip(grads, needed, strict=True):
        if need:
            _binary.ops.scale_(tensor, grad)
    return [tensor.data for tensor in grads]  # whoever changes them in place changes nothing saved


def where_needed(grads: Sequence[Tensor], needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    return tuple(grad if need else None for grad, need in zip(grads, needed, strict=True))


@torch.library.register_fake("vtadl_ext::scale_")
def _(tensor: Tensor, factor: Tensor) -> None:
    return None
