"""What the autograd functions of all operators share."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vtadl_ext import _binary

# Whether one of torch.func's transformations is at work; where nobody can tell, it may be.
functorch_is_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
# The same for the gradients that torch.autograd.grad takes for its is_grads_batched.
_is_legacy_batched = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda _: True)


class _OnceDifferentiable(torch.autograd.Function):
    """A backward operator, whose own derivative is an error that says what to do instead."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        name: str, operator: Callable[..., tuple[Tensor, ...]], *arguments: Any
    ) -> tuple[Tensor, ...]:
        return operator(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(
            f"vtadl_ext's {ctx.name} operators have first derivatives only; for higher ones use those of the "
            "same name in vtadl_ext.reference"
        )


def once_differentiable(
    name: str, operator: Callable[..., tuple[Tensor, ...]], *arguments: Any
) -> tuple[Tensor, ...]:
    # torch.compile has no second derivatives, and cannot trace one autograd.Function inside another.
    run = _OnceDifferentiable.forward if torch.compiler.is_compiling() else _OnceDifferentiable.apply
    return run(name, operator, *arguments)


def backward_operator(name: str, *arguments: Any) -> tuple[Tensor, ...]:
    return once_differentiable(name, getattr(_binary.ops, f"{name}_backward"), *arguments)


def _is_plain_backward(grad: Tensor) -> bool:
    """Whether a backward pass is neither to be differentiated nor one of a batch."""
    return not (torch.is_grad_enabled() or functorch_is_active() or _is_legacy_batched(grad))


def needs_autograd(tensors: Sequence[Tensor]) -> bool:
    """Whether an operator has to be seen by autograd; what is inside of functorch may be, all of it."""
    return torch.is_grad_enabled() and (
        any(tensor.requires_grad for tensor in tensors) or functorch_is_active()
    )


def takes_gradients_along(tensors: Sequence[Tensor]) -> bool:
    """Whether a reduced result computes its gradients in the forward pass, while the cache has the data.

    That needs gradients that will be taken, and plain eager mode: the compiler and functorch have backward
    passes of their own. Half precision would round the gradients before the factor of a loss scaler, which is
    there to keep them from vanishing, could reach them.
    """
    return (
        not torch.compiler.is_compiling()
        and torch.is_grad_enabled()
        and any(tensor.requires_grad for tensor in tensors)
        and tensors[0].dtype != torch.float16
        and not functorch_is_active()
    )


def claim_grads(ctx: Any, grads: Sequence[Tensor], needed: Sequence[bool], grad: Tensor) -> bool:
    """Scales the gradients that a loss made in its forward pass by its own, for the first backward pass.

    False, and nothing done, in another one over the same graph, in one that is to be differentiated, and in a
    batch of them: these have to compute their own.
    """
    if ctx.grads_are_taken or not _is_plain_backward(grad):
        return False
    ctx.grads_are_taken = True
    for tensor, need in zip(grads, needed, strict=True):
        if need:
            _binary.ops.scale_(tensor, grad)
    return True


def where_needed(grads: Sequence[Tensor], needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    return tuple(grad if need else None for grad, need in zip(grads, needed, strict=True))


@torch.library.register_fake("vtadl_ext::scale_")
def _(tensor: Tensor, factor: Tensor) -> None:
    return None
