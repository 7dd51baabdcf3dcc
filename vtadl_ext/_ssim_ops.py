"""The operators of SSIM: fake kernels, vmap rules and autograd functions."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vtadl_ext import _binary
from vtadl_ext._autograd import (
    claim_grads,
    functorch_is_active,
    gradients,
    is_traced,
    needs_autograd,
    takes_gradients_along,
    where_needed,
)
from vtadl_ext._binary import SUMS, accumulate_dtype
from vtadl_ext._shapes import batch_first, claim_batch
from vtadl_ext.reference._sums import widen
from vtadl_ext.reference.ssim import window_index


@torch.library.register_fake("vtadl_ext::ssim_forward")
def _(
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    window: Sequence[float],
    data_range: float,
    k1: float,
    k2: float,
    border: int,
    luminance: bool,
    map: bool,
    errors: bool,
) -> Tensor:
    grown = 2 * border - len(window) + 1
    last = (x.shape[-2] + grown, x.shape[-1] + grown) if map else (SUMS,)
    return x.new_empty((*x.shape[:-2], *last), dtype=accumulate_dtype(x.dtype))


@torch.library.register_fake("vtadl_ext::ssim_total")
def _(weights: Sequence[float], x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    return _empty_totals(x)


def _empty_totals(x: Tensor) -> tuple[Tensor, Tensor]:
    dtype = accumulate_dtype(x.dtype)
    return x.new_empty((), dtype=dtype), x.new_empty((SUMS,), dtype=dtype)


@torch.library.register_fake("vtadl_ext::ssim_backward")
def _(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    window: Sequence[float],
    data_range: float,
    k1: float,
    k2: float,
    border: int,
    luminance: bool,
    map: bool,
    errors: bool,
    *needs: bool,
) -> tuple[Tensor, ...]:
    return _empty_ssim_grads(x, y, needs)


@torch.library.register_fake("vtadl_ext::ssim_forward_backward")
def _(
    grad: Sequence[float],
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    window: Sequence[float],
    data_range: float,
    k1: float,
    k2: float,
    border: int,
    luminance: bool,
    errors: bool,
    *needs: bool,
) -> tuple[Tensor, ...]:
    return *_empty_totals(x), *_empty_ssim_grads(x, y, needs)


def _empty_ssim_grads(x: Tensor, y: Tensor, needs: Sequence[bool]) -> tuple[Tensor, ...]:
    return tuple(
        torch.empty_like(image) if need else image.new_empty((0,))
        for image, need in zip((x, y), needs, strict=True)
    )


# ------------------------------------------------------------------------------------------------------ vmap


def _batch_into_images(
    info: Any, in_dims: Sequence[int | None], tensors: Sequence[Tensor | None]
) -> Iterator[Tensor | None]:
    """The batch as so many more images."""
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
    return claim_batch(grads, needed, info.batch_size)


# -------------------------------------------------------------------------------------------------- autograd


def ssim_map(*arguments: Any) -> Tensor:
    """The index of each window."""
    return _ssim(*arguments, True, False)


def ssim_sums(*arguments: Any, errors: bool = False) -> Tensor:
    """Sums over each plane, `[N, C, 4]`, in the order of SsimSums in csrc/ssim/ssim.h."""
    return _ssim(*arguments, False, errors)


def _ssim(*arguments: Any) -> Tensor:
    run = SSIM.apply if needs_autograd(arguments[:2]) else _binary.ops.ssim_forward
    return run(*arguments)  # type: ignore[no-any-return]


def ssim_total(
    weights: Sequence[float], divisors: Sequence[Any], *arguments: Any, errors: bool = False
) -> tuple[Tensor, Tensor]:
    """Σ weight · sum / divisor over the sums of all planes; and these sums, ``[4]``, without gradients."""
    if takes_gradients_along(arguments[:2]):
        return SSIMTotal.apply(weights, divisors, *arguments, errors)  # type: ignore[no-any-return]
    if _is_plain(arguments[:2]):
        return _binary.ops.ssim_total(_quotients(weights, divisors), *arguments, errors)  # type: ignore[no-any-return]
    sums = ssim_sums(*arguments, errors=errors).sum((0, 1))
    terms = [
        weight * (sums[i] / divisor)
        for i, (weight, divisor) in enumerate(zip(weights, divisors, strict=True))
        if weight != 0
    ]
    return sum(terms[1:], terms[0]) if terms else sums.new_zeros(()), sums.detach()


def _is_plain(images: Sequence[Tensor]) -> bool:
    """Without gradients, and in eager mode: in programs and traces the number of images is no constant."""
    return not (
        torch.compiler.is_compiling() or is_traced() or needs_autograd(images) or functorch_is_active()
    )


def _quotients(weights: Sequence[float], divisors: Sequence[int]) -> list[float]:
    """NaN, as of a mean, where a weight has a divisor of 0."""
    return [
        weight / n if n else weight * math.nan if weight else 0.0
        for weight, n in zip(weights, divisors, strict=True)
    ]


def _formula(options: Sequence[Any], grad: Any, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
    """What the operator with these options computes: the map, or the sums of each plane."""
    window, data_range, k1, k2, border, luminance, map, errors = options
    padding = "same" if border else "valid"
    index, counted = window_index(x, y, window, data_range, k1, k2, padding, mask, luminance=luminance)
    if map:
        return index
    difference = widen(x) - widen(y) if errors else torch.zeros_like(index)
    parts = (index, counted.to(index.dtype), difference.square(), difference.abs())
    return torch.stack([part.sum((-2, -1)) for part in parts], dim=-1)


def _ssim_gradients(
    grad: Tensor, images_and_mask: Sequence[Tensor | None], options: Sequence[Any], needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Of x, y and the mask, which has none, from that of the map or of the sums."""

    def operator(grad: Tensor, *images_and_mask: Tensor | None) -> list[Tensor]:
        grads = _binary.ops.ssim_backward(grad, *images_and_mask, *options, *needed)
        return [part for part, need in zip(grads, needed, strict=True) if need]

    return gradients(operator, partial(_formula, options), grad, images_and_mask, (*needed, False))


class SSIM(torch.autograd.Function):
    """The map, or the sums of each plane."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        return _binary.ops.ssim_forward(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.options = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = _ssim_gradients(grad, ctx.saved_tensors, ctx.options, ctx.needs_input_grad[:2])
        return *grads, *[None] * len(ctx.options)


class SSIMTotal(torch.autograd.Function):
    """`ssim_total`, with the gradients computed in the forward pass. What GMMLoss says holds here too."""

    @staticmethod
    def forward(
        ctx: Any, weights: Sequence[float], divisors: Sequence[int], *arguments: Any
    ) -> tuple[Tensor, Tensor]:
        images_and_mask, options = arguments[:3], arguments[3:]
        grad_of_sums = _quotients(weights, divisors)
        total, sums, *grads = _binary.ops.ssim_forward_backward(
            grad_of_sums, *arguments, *ctx.needs_input_grad[2:4]
        )
        ctx.save_for_backward(*images_and_mask, *grads)
        ctx.grad_of_sums, ctx.options, ctx.grads_are_taken = grad_of_sums, options, False
        ctx.mark_non_differentiable(sums)
        ctx.set_materialize_grads(False)  # zeros for the sums
        return total, sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * (5 + len(ctx.options))
        needed = ctx.needs_input_grad[2:4]
        saved = ctx.saved_tensors  # asked for once: torch.utils.checkpoint allows no more
        images_and_mask, grads = saved[:3], saved[3:]
        claimed = claim_grads(ctx, grads, needed, grad)
        if claimed is not None:
            grads = (*where_needed(claimed, needed), None)
        else:
            grad = torch.stack([weight * grad for weight in ctx.grad_of_sums])
            grad = grad.expand(*images_and_mask[0].shape[:2], SUMS)
            *options, errors = ctx.options
            grads = _ssim_gradients(grad, images_and_mask, (*options, False, errors), needed)
        return None, None, *grads, *[None] * len(ctx.options)
