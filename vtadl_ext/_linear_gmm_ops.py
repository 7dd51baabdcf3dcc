"""The operators of a linear head and the likelihood of its mixtures, a chunk of rows at a time.

Opaque to the compiler. What all rows would need, the mixtures and their gradients, is never whole in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from vtadl_ext import _binary, reference
from vtadl_ext._autograd import claim_grads, gradients, needs_autograd, where_needed
from vtadl_ext._binary import MIXTURES, SCALE_PARAM_NAMES, accumulate_dtype
from vtadl_ext.reference.gmm import without
from vtadl_ext.reference.linear_gmm import HeadRows, mixture_of

# Without a budget of the caller's: this share of what all rows would need, but no less than these. Each chunk
# reads the whole weight, and reads and writes its whole gradient; with a small one a GPU is done before the
# next has been launched.
_CHUNKS = 16
_LEAST_ROWS = 192
_LEAST_BYTES = {"cpu": 1 << 24, "cuda": 1 << 27}

# Elements of a half-precision product on its way to a sum in float32.
_PIECE = 1 << 22


class _Head:
    """A head's weight in the type of its products, and the mixtures it makes of some rows of h."""

    def __init__(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        components: int,
        shared: bool,
        dtype: torch.dtype,
    ) -> None:
        means = components * x.shape[-1]
        self.sizes = HeadRows(components, means, weight.shape[0] - components - means)
        self.shared_scale = shared
        self.weights = weight.to(dtype).split(self.sizes)
        self.biases = (None,) * 3 if bias is None else bias.to(dtype).split(self.sizes)
        self.dtype = dtype
        self.likelihood_dtype = torch.promote_types(x.dtype, dtype)  # they differ under autocast
        self.rooms: tuple[Tensor, ...] | None = None

    def chunks(self, samples: int, memory_budget: int | None) -> Iterator[slice]:
        """The samples in chunks of about the same size, the largest first."""
        if memory_budget is None:
            least_bytes = _LEAST_BYTES[self.weights[0].device.type]
            most = max(_divide_up(samples, _CHUNKS), _LEAST_ROWS, least_bytes // self.bytes_of_sample())
        else:
            most = max(1, memory_budget // self.bytes_of_sample())
        size = max(1, _divide_up(samples, max(1, _divide_up(samples, most))))
        return (slice(first, min(first + size, samples)) for first in range(0, samples, size))

    def bytes_of_sample(self) -> int:
        """The parameters, which their gradients replace, and three numbers for each component."""
        parameters = sum(dtype.itemsize for dtype in {self.dtype, self.likelihood_dtype})
        return sum(self.sizes) * parameters + 3 * self.sizes.logits * accumulate_dtype(self.dtype).itemsize

    def mixtures(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, mu and scale, in memory that the next chunk uses again."""
        if self.rooms is None:
            self.rooms = tuple(h.new_empty(len(h), size, dtype=self.dtype) for size in self.sizes)
        rooms = tuple(room[: len(h)] for room in self.rooms)
        for room, weight, bias in zip(rooms, self.weights, self.biases, strict=True):
            if bias is None:
                torch.mm(h, weight.T, out=room)
            else:
                torch.addmm(bias, h, weight.T, out=room)
        return mixture_of(tuple(room.to(self.likelihood_dtype) for room in rooms), self.shared_scale)


class _HeadGrads:
    """Sums over chunks of the gradients of h, weight and bias, none where nobody needs them."""

    def __init__(
        self, head: _Head, h: Tensor, weight: Tensor, bias: Tensor | None, needs: Sequence[bool]
    ) -> None:
        self.head = head
        self.wanted = any(needs)
        self.dtypes = (h.dtype, weight.dtype, weight.dtype)
        shapes = (h.shape, weight.shape, weight.shape[:1])
        self.sums = tuple(
            h.new_zeros(shape if need else (0,), dtype=accumulate_dtype(head.dtype))
            for shape, need in zip(shapes, needs, strict=True)
        )
        self.of_h = self.sums[0] if needs[0] else None
        self.of_weights = self.sums[1].split(head.sizes) if needs[1] else (None,) * 3
        self.of_biases = self.sums[2].split(head.sizes) if needs[2] else (None,) * 3

    def add(self, rows: slice, h: Tensor, mixtures: Sequence[Tensor]) -> None:
        """The gradients of a chunk, from those of its logits, mu and scale."""
        for mixture, weight, of_weight, of_bias in zip(
            mixtures, self.head.weights, self.of_weights, self.of_biases, strict=True
        ):
            of_product = mixture.flatten(1).to(self.head.dtype)
            if self.of_h is not None:
                _add_product(self.of_h[rows], of_product, weight)
            if of_weight is not None:
                _add_product(of_weight, of_product.T, h)
            if of_bias is not None:
                of_bias += of_product.sum(0, dtype=of_bias.dtype)

    def results(self) -> tuple[Tensor, ...]:
        return tuple(total.to(dtype) for total, dtype in zip(self.sums, self.dtypes, strict=True))


def _log_prob_dtype(x: Tensor, dtype: torch.dtype) -> torch.dtype:
    return accumulate_dtype(torch.promote_types(x.dtype, dtype))


def _divide_up(a: int, b: int) -> int:
    return -(-a // b)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, where a total of products in half precision is in float32."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
        return
    rows = max(1, _PIECE // max(1, b.shape[1]))
    for part, some in zip(total.split(rows), a.split(rows), strict=True):
        part += torch.mm(some, b, out_dtype=total.dtype) if a.is_cuda else torch.mm(some, b)


def _mixture_grads(
    grad: Tensor,
    x: Tensor,
    mixture: tuple[Tensor, Tensor, Tensor],
    options: tuple[int, float, int],
    needs_x: bool,
    needs_mixture: bool,
) -> tuple[Tensor, ...]:
    """log_prob, and the gradients of Σ grad · log_prob: where they can, over mu and scale themselves."""
    _, mu, scale = mixture
    if needs_mixture and mu.shape == scale.shape:
        log_prob, of_x, of_logits = _binary.ops.gmm_forward_backward_(grad, x, *mixture, *options, needs_x)
        return log_prob, of_x, of_logits, mu, scale
    log_prob, components = _binary.ops.gmm_forward(x, *mixture, *options)
    needs = (needs_x, *[needs_mixture] * 3)
    return log_prob, *_binary.ops.gmm_backward(grad, log_prob, components, x, *mixture, *options, *needs)


@torch.library.custom_op("vtadl_ext::linear_gmm_forward", mutates_args=())
def linear_gmm_forward(
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    components: int,
    shared_scale: bool,
    dtype: torch.dtype,
    memory_budget: int | None,
    scale_param: int,
    min_std: float,
    mixture: int,
) -> Tensor:
    """log_prob of each row of x, [N, D], under the mixture that the head makes of h, [N, H], in `dtype`."""
    head = _Head(x, weight, bias, components, shared_scale, dtype)
    log_prob = x.new_empty(len(x), dtype=_log_prob_dtype(x, dtype))
    for rows in head.chunks(len(x), memory_budget):
        of_x, of_h = x[rows].to(head.likelihood_dtype), h[rows].to(dtype)
        options = (scale_param, min_std, mixture)
        log_prob[rows] = _binary.ops.gmm_forward(of_x, *head.mixtures(of_h), *options, False)[0]
    return log_prob


@torch.library.custom_op("vtadl_ext::linear_gmm_forward_backward", mutates_args=())
def linear_gmm_forward_backward(
    grad: Tensor,
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    components: int,
    shared_scale: bool,
    dtype: torch.dtype,
    memory_budget: int | None,
    scale_param: int,
    min_std: float,
    mixture: int,
    needs_x: bool,
    needs_h: bool,
    needs_weight: bool,
    needs_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The same, and the gradients of Σ grad · log_prob; without elements where nobody needs them."""
    head = _Head(x, weight, bias, components, shared_scale, dtype)
    grads = _HeadGrads(head, h, weight, bias, (needs_h, needs_weight, needs_bias))
    log_prob = x.new_empty(len(x), dtype=_log_prob_dtype(x, dtype))
    grad_x = torch.empty_like(x) if needs_x else x.new_empty(0)
    for rows in head.chunks(len(x), memory_budget):
        of_x, of_h = x[rows].to(head.likelihood_dtype), h[rows].to(dtype)
        mixtures = head.mixtures(of_h)
        options = (scale_param, min_std, mixture)
        log_prob[rows], of_x, *of_mixtures = _mixture_grads(
            grad[rows], of_x, mixtures, options, needs_x, grads.wanted
        )
        if needs_x:
            grad_x[rows] = of_x
        if grads.wanted:
            grads.add(rows, of_h, of_mixtures)
    return log_prob, grad_x, *grads.results()  # type: ignore[return-value]


@linear_gmm_forward.register_fake
def _(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    return x.new_empty(x.shape[0], dtype=_log_prob_dtype(x, options[2]))


@linear_gmm_forward_backward.register_fake
def _(
    grad: Tensor, x: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any
) -> tuple[Tensor, ...]:
    options, needs = arguments[:-4], arguments[-4:]
    log_prob = x.new_empty(x.shape[0], dtype=_log_prob_dtype(x, options[2]))
    tensors = (x, h, weight, weight[:, 0])
    return log_prob, *(
        tensor.new_empty(tensor.shape if need else (0,)) for tensor, need in zip(tensors, needs, strict=True)
    )


# ----------------------------------------------------------------------------------------------------- FLOPs


def _product_flops(h: Sequence[int], weight: Sequence[int]) -> int:
    return 2 * h[0] * weight[0] * weight[1]


@register_flop_formula(torch.ops.vtadl_ext.linear_gmm_forward)
def _(x: Any, h: Any, weight: Any, *arguments: Any, **_: Any) -> int:
    """Of the products alone, as PyTorch counts them."""
    return _product_flops(h, weight)


@register_flop_formula(torch.ops.vtadl_ext.linear_gmm_forward_backward)
def _(grad: Any, x: Any, h: Any, weight: Any, *arguments: Any, **_: Any) -> int:
    _, needs_h, needs_weight, _ = arguments[-4:]
    return _product_flops(h, weight) * (1 + int(needs_h) + int(needs_weight))


# ------------------------------------------------------------------------------------------------------ vmap


def _each_of_batch(
    run: Callable[..., Any], info: Any, in_dims: Sequence[int | None], arguments: Sequence[Any]
) -> Iterator[Any]:
    for i in range(info.batch_size):
        yield run(
            *(
                argument if dim is None else argument.select(dim, i)
                for argument, dim in zip(arguments, in_dims, strict=True)
            )
        )


@linear_gmm_forward.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
    if in_dims[2] is None and in_dims[3] is None:
        # The batch as so many more rows of the same head.
        x, h = (
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(arguments[:2], in_dims[:2], strict=True)
        )
        log_prob = linear_gmm_forward(x.flatten(0, 1), h.flatten(0, 1), *arguments[2:])
        return log_prob.unflatten(0, (info.batch_size, -1)), 0
    return torch.stack(list(_each_of_batch(linear_gmm_forward, info, in_dims, arguments))), 0


@linear_gmm_forward_backward.register_vmap
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    results = _each_of_batch(linear_gmm_forward_backward, info, in_dims, arguments)
    return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * 5


# -------------------------------------------------------------------------------------------------- autograd


def linear_gmm_log_prob(*arguments: Any) -> Tensor:
    """log_prob of each row."""
    tensors = [argument for argument in arguments[:4] if argument is not None]
    run = LinearGMMLogProb.apply if needs_autograd(tensors) else linear_gmm_forward
    return run(*arguments)  # type: ignore[no-any-return]


class LinearGMMLogProb(torch.autograd.Function):
    """log_prob of each row. The backward pass computes the mixtures again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(  # with a name for each argument: torch.compile counts them
        x: Tensor,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        components: int,
        shared_scale: bool,
        dtype: torch.dtype,
        memory_budget: int | None,
        scale_param: int,
        min_std: float,
        mixture: int,
    ) -> Tensor:
        options = (components, shared_scale, dtype, memory_budget, scale_param, min_std, mixture)
        return linear_gmm_forward(x, h, weight, bias, *options)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.options = inputs[4:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[:4]
        return *_grads(grad, ctx.saved_tensors, ctx.options, needed), *[None] * len(ctx.options)


class LinearGMMLoss(torch.autograd.Function):
    """Σ -log_prob / `divisor`, with the gradients computed in the forward pass: no mixture is computed twice.

    The first backward pass takes them. Another one over the same graph, one that is to be differentiated, or
    a batch of them computes its own. For eager mode alone: the context changes in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, divisor: int, *arguments: Any) -> Tensor:
        tensors, options = arguments[:4], arguments[4:]
        x = tensors[0]
        grad = x.new_full((len(x),), -1 / max(divisor, 1), dtype=_log_prob_dtype(x, options[2]))
        log_prob, *grads = linear_gmm_forward_backward(grad, *arguments, *ctx.needs_input_grad[1:5])
        ctx.save_for_backward(*tensors, *grads)
        ctx.divisor, ctx.options, ctx.grads_are_taken = divisor, options, False
        return -(log_prob.sum() / divisor)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:5]
        saved = ctx.saved_tensors  # asked for once: torch.utils.checkpoint allows no more
        tensors, grads = saved[:4], saved[4:]
        claimed = claim_grads(ctx, grads, needed, grad)
        if claimed is not None:
            grads = where_needed(claimed, needed)
        else:
            row_grad = (-grad / ctx.divisor).expand(len(tensors[0]))
            grads = _grads(row_grad, tensors, ctx.options, needed)
        return None, *grads, *[None] * len(ctx.options)


def _formula(
    options: Sequence[Any],
    grad: Tensor | None,
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """log_prob of each row, from mixtures that are whole in memory.

    Rows without a value and without an upstream gradient are left out, as the operator leaves them out.
    """
    if grad is not None:
        with torch.no_grad():
            value = _log_prob(options, x, h, weight, bias)
            left_out = (grad == 0) & ~value.isfinite()
        x, h = (without(left_out, tensor, 1) for tensor in (x, h))
    return _log_prob(options, x, h, weight, bias)


def _log_prob(options: Sequence[Any], x: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    components, shared_scale, dtype, _, scale_param, min_std, mixture = options
    head = (h.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
    with torch.autocast(x.device.type, enabled=False):
        return -reference.linear_gmm_nll(
            x.to(torch.promote_types(x.dtype, dtype)),
            *head,
            num_components=components,
            scale_param=SCALE_PARAM_NAMES[scale_param],
            min_std=min_std,
            mixture=MIXTURES[mixture],
            shared_scale=shared_scale,
            reduction="none",
        )


def _grads(
    grad: Tensor, tensors: Sequence[Tensor | None], options: Sequence[Any], needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    def operator(grad: Tensor, *tensors: Tensor | None) -> list[Tensor]:
        _, *grads = linear_gmm_forward_backward(grad, *tensors, *options, *needed)
        return [part for part, need in zip(grads, needed, strict=True) if need]

    return gradients(operator, partial(_formula, options), grad, tensors, needed)
