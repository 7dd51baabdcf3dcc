"""The operators of SSIM: fake kernels, vmap rules and autograd functions."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vtadl_ext import _binary, _fallback
from vtadl_ext._autograd import (
    computes_grads_in_forward,
    functorch_is_active,
    gradients,
    is_traced,
    needs_autograd,
    save_for_loss,
    saved_by_loss,
    where_needed,
)
from vtadl_ext._binary import SUMS, accumulate_dtype
from vtadl_ext._shapes import batch_first, with_batch_dims
from vtadl_ext._ssim_options import SSIMKernelArguments, SSIMKernelOptions

# ---------------------------------------------------------------------------------------------- fake kernels


@torch.library.register_fake("vtadl_ext::ssim_forward")
def _(*arguments: Any) -> Tensor:
    *shared, map, _ = arguments
    x, _, _, vertical, horizontal, *_, bordered, _ = SSIMKernelArguments(*shared)
    lost = (0, 0) if bordered else (len(vertical) - 1, len(horizontal) - 1)
    last = (x.shape[-2] - lost[0], x.shape[-1] - lost[1]) if map else (SUMS,)
    return x.new_empty((*x.shape[:-2], *last), dtype=accumulate_dtype(x.dtype))


@torch.library.register_fake("vtadl_ext::ssim_total")
def _(coefficients: Sequence[float], x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    return _empty_totals(x)


@torch.library.register_fake("vtadl_ext::ssim_backward")
def _(grad: Tensor, x: Tensor, y: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    return _empty_grads(x, y, arguments[-2:])


@torch.library.register_fake("vtadl_ext::ssim_forward_backward")
def _(grad: Sequence[float], x: Tensor, y: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    return *_empty_totals(x), *_empty_grads(x, y, arguments[-2:])


def _empty_totals(x: Tensor) -> tuple[Tensor, Tensor]:
    dtype = accumulate_dtype(x.dtype)
    return x.new_empty((), dtype=dtype), x.new_empty((SUMS,), dtype=dtype)


def _empty_grads(x: Tensor, y: Tensor, needed: Sequence[bool]) -> tuple[Tensor, ...]:
    return tuple(
        torch.empty_like(image) if need else image.new_empty((0,))
        for image, need in zip((x, y), needed, strict=True)
    )


# ------------------------------------------------------------------------------------------------------ vmap


def _batch_into_images(
    info: Any, in_dims: Sequence[int | None], tensors: Sequence[Tensor | None]
) -> Iterator[Tensor | None]:
    """Tensors whose batch consists of more images."""
    for tensor, dim in zip(tensors, in_dims, strict=True):
        yield None if tensor is None else batch_first(tensor, dim, info.batch_size).flatten(0, 1)


@torch.library.register_vmap("vtadl_ext::ssim_forward")
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
    tensors = _batch_into_images(info, in_dims[:3], arguments[:3])
    return _binary.ops.ssim_forward(*tensors, *arguments[3:]).unflatten(0, (info.batch_size, -1)), 0


@torch.library.register_vmap("vtadl_ext::ssim_backward")
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    needed = arguments[-2:]
    tensors = _batch_into_images(info, in_dims[:4], arguments[:4])
    grads = _binary.ops.ssim_backward(*tensors, *arguments[4:])
    grads = tuple(
        grad.unflatten(0, (info.batch_size, -1)) if need else grad
        for grad, need in zip(grads, needed, strict=True)
    )
    return with_batch_dims(grads, needed, info.batch_size)


# -------------------------------------------------------------------------------------------------- autograd


def ssim_map(arguments: SSIMKernelArguments) -> Tensor:
    """The index of each window."""
    return _ssim(*arguments, True, False)


def ssim_sums(arguments: SSIMKernelArguments, errors: bool = False) -> Tensor:
    """Sums over each plane, ``[N, C, 4]``, in the order of SsimSums in csrc/ssim/ssim.h."""
    return _ssim(*arguments, False, errors)


def _ssim(*arguments: Any) -> Tensor:
    run = SSIM.apply if needs_autograd(arguments[:2]) else _binary.ops.ssim_forward
    return run(*arguments)  # type: ignore[no-any-return]


def ssim_total(
    coefficients: Sequence[float],
    divisors: Sequence[Any],
    arguments: SSIMKernelArguments,
    errors: bool = False,
) -> tuple[Tensor, Tensor]:
    """Σ coefficient · sum / divisor over the sums of all planes, and the sums, ``[4]``, without gradients."""
    images = (arguments.x, arguments.y)
    if computes_grads_in_forward(images):
        return SSIMTotal.apply(coefficients, divisors, *arguments, errors)  # type: ignore[no-any-return]
    if _is_plain(images):
        return _binary.ops.ssim_total(_quotients(coefficients, divisors), *arguments, errors)  # type: ignore[no-any-return]
    sums = ssim_sums(arguments, errors).sum((0, 1))
    terms = [
        coefficient * (sums[i] / divisor)
        for i, (coefficient, divisor) in enumerate(zip(coefficients, divisors, strict=True))
        if coefficient != 0
    ]
    return sum(terms[1:], terms[0]) if terms else sums.new_zeros(()), sums.detach()


def _is_plain(images: Sequence[Tensor]) -> bool:
    """Whether the mode is eager and without gradients. In programs and traces the image count may vary."""
    return not (
        torch.compiler.is_compiling() or is_traced() or needs_autograd(images) or functorch_is_active()
    )


def _quotients(coefficients: Sequence[float], divisors: Sequence[int]) -> list[float]:
    """The quotients. Where the divisor alone is 0 they are NaN, like a mean of nothing."""
    return [
        coefficient / n if n else coefficient * math.nan if coefficient else 0.0
        for coefficient, n in zip(coefficients, divisors, strict=True)
    ]


def _ssim_gradients(
    grad: Tensor, images_and_mask: Sequence[Tensor | None], options: SSIMKernelOptions, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of x, y and the mask, which has none, from that of the map or of the sums."""

    def operator(grad: Tensor, *images_and_mask: Tensor | None) -> list[Tensor]:
        grads = _binary.ops.ssim_backward(grad, *images_and_mask, *options, *needed)
        return [part for part, need in zip(grads, needed, strict=True) if need]

    formula = partial(_fallback.ssim_formula, options)
    return gradients(operator, formula, grad, images_and_mask, (*needed, False))


class SSIM(torch.autograd.Function):
    """The map, or the sums of each plane."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        return _binary.ops.ssim_forward(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.options = SSIMKernelOptions(*inputs[3:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = _ssim_gradients(grad, ctx.saved_tensors, ctx.options, ctx.needs_input_grad[:2])
        return *grads, *[None] * len(ctx.options)


class SSIMTotal(torch.autograd.Function):
    """`ssim_total`, with the gradients computed in the forward pass, as by GMMLoss."""

    @staticmethod
    def forward(
        ctx: Any, coefficients: Sequence[float], divisors: Sequence[int], *arguments: Any
    ) -> tuple[Tensor, Tensor]:
        grad_of_sums = _quotients(coefficients, divisors)
        total, sums, *grads = _binary.ops.ssim_forward_backward(
            grad_of_sums, *arguments, *ctx.needs_input_grad[2:4]
        )
        save_for_loss(ctx, arguments[:3], grads)
        ctx.grad_of_sums, ctx.options = grad_of_sums, arguments[3:]
        ctx.mark_non_differentiable(sums)
        ctx.set_materialize_grads(False)  # they would be zeros for the sums
        return total, sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * (5 + len(ctx.options))
        needed = ctx.needs_input_grad[2:4]
        images_and_mask, saved_grads = saved_by_loss(ctx, grad, needed)
        if saved_grads is not None:
            grads = (*where_needed(saved_grads, needed), None)
        else:
            grad = torch.stack([coefficient * grad for coefficient in ctx.grad_of_sums])
            grad = grad.expand(*images_and_mask[0].shape[:2], SUMS)
            *shared, errors = ctx.options
            options = SSIMKernelOptions._make((*shared, False, errors))
            grads = _ssim_gradients(grad, images_and_mask, options, needed)
        return None, None, *grads, *[None] * len(ctx.options)
