"""The operators of a linear head and the likelihood of its mixtures, a chunk of rows at a time.

The mixtures of all rows and their gradients are never whole in memory. The operators are opaque to the
compiler.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from vtadl_ext import _binary, _fallback
from vtadl_ext._autograd import gradients, needs_autograd, save_for_loss, saved_by_loss, where_needed
from vtadl_ext._binary import accumulate_dtype
from vtadl_ext._head_layout import HeadRows, as_mixture
from vtadl_ext._options import GMMKernelOptions, HeadOptions

# Without a memory budget a chunk is the largest of one part in so many of all rows, so many rows, and so many
# bytes. Each chunk reads the whole weight, and reads and writes its whole gradient. A GPU finishes a small
# chunk before the next one is launched.
_CHUNKS = 16  # since 2026-11-24; other values were not measured
# Since 2026-11-24: a step of N = 2048, K = 30, D = H = 512 on two CPU cores, whose model no record says, took
# 1.33 times as long with 64 rows, 1.05 times as long with 128, and as long with 256.
_MIN_ROWS = 192
# Since 2026-11-24 (cpu) and 2026-11-27 (cuda); other values were not measured.
_MIN_BYTES = {"cpu": 1 << 24, "cuda": 1 << 27}

# Elements of a half-precision product that are converted at a time, on their way to a sum in float32. The
# number is of 2026-11-24; others were not measured.
_CONVERTED_ELEMENTS = 1 << 22


class _Head:
    """A head's weight in the dtype of its products, and the mixtures that it makes of some rows of h."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor | None, options: HeadOptions) -> None:
        components, dtype = options.num_components, options.dtype
        means = components * x.shape[-1]
        self.sizes = HeadRows(components, means, weight.shape[0] - components - means)
        self.shared_scale = options.shared_scale
        self.weights = weight.to(dtype).split(self.sizes)
        self.biases = (None,) * 3 if bias is None else bias.to(dtype).split(self.sizes)
        self.dtype = dtype
        self.likelihood_dtype = torch.promote_types(x.dtype, dtype)  # they differ under autocast
        self.buffers: tuple[Tensor, ...] | None = None

    def chunks(self, samples: int, memory_budget: int | None) -> Iterator[slice]:
        """The samples in chunks of about the same size, the largest first."""
        if memory_budget is None:
            min_bytes = _MIN_BYTES[self.weights[0].device.type]
            max_rows = max(_divide_up(samples, _CHUNKS), _MIN_ROWS, min_bytes // self.bytes_per_sample())
        else:
            max_rows = max(1, memory_budget // self.bytes_per_sample())
        size = max(1, _divide_up(samples, max(1, _divide_up(samples, max_rows))))
        return (slice(first, min(first + size, samples)) for first in range(0, samples, size))

    def bytes_per_sample(self) -> int:
        """The size of the parameters, which their gradients replace, and of three numbers per component."""
        parameters = sum(dtype.itemsize for dtype in {self.dtype, self.likelihood_dtype})
        return sum(self.sizes) * parameters + 3 * self.sizes.logits * accumulate_dtype(self.dtype).itemsize

    def mixtures(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, mu and scale, in buffers that the next chunk uses again."""
        if self.buffers is None:
            self.buffers = tuple(h.new_empty(len(h), size, dtype=self.dtype) for size in self.sizes)
        outputs = tuple(buffer[: len(h)] for buffer in self.buffers)
        for output, weight, bias in zip(outputs, self.weights, self.biases, strict=True):
            if bias is None:
                torch.mm(h, weight.T, out=output)
            else:
                torch.addmm(bias, h, weight.T, out=output)
        return as_mixture([output.to(self.likelihood_dtype) for output in outputs], self.shared_scale)


class _HeadGrads:
    """Sums over chunks of the gradients of h, weight and bias. Those that are not needed stay empty."""

    def __init__(
        self, head: _Head, h: Tensor, weight: Tensor, bias: Tensor | None, needed: Sequence[bool]
    ) -> None:
        self.head = head
        self.any_needed = any(needed)
        self.dtypes = (h.dtype, weight.dtype, weight.dtype)
        shapes = (h.shape, weight.shape, weight.shape[:1])
        self.sums = tuple(
            h.new_zeros(shape if need else (0,), dtype=accumulate_dtype(head.dtype))
            for shape, need in zip(shapes, needed, strict=True)
        )
        self.grad_h = self.sums[0] if needed[0] else None
        self.grad_weights = self.sums[1].split(head.sizes) if needed[1] else (None,) * 3
        self.grad_biases = self.sums[2].split(head.sizes) if needed[2] else (None,) * 3

    def add(self, rows: slice, h: Tensor, mixture_grads: Sequence[Tensor]) -> None:
        """Adds the gradients of a chunk, from those of its logits, mu and scale."""
        for mixture_grad, weight, grad_weight, grad_bias in zip(
            mixture_grads, self.head.weights, self.grad_weights, self.grad_biases, strict=True
        ):
            grad = mixture_grad.flatten(1).to(self.head.dtype)
            if self.grad_h is not None:
                _add_product(self.grad_h[rows], grad, weight)
            if grad_weight is not None:
                _add_product(grad_weight, grad.T, h)
            if grad_bias is not None:
                grad_bias += grad.sum(0, dtype=grad_bias.dtype)

    def results(self) -> tuple[Tensor, ...]:
        return tuple(total.to(dtype) for total, dtype in zip(self.sums, self.dtypes, strict=True))


def _log_prob_dtype(x: Tensor, dtype: torch.dtype) -> torch.dtype:
    return accumulate_dtype(torch.promote_types(x.dtype, dtype))


def _divide_up(a: int, b: int) -> int:
    return -(-a // b)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b. The total of products in half precision is in float32."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
        return
    rows = max(1, _CONVERTED_ELEMENTS // max(1, b.shape[1]))
    for total_rows, a_rows in zip(total.split(rows), a.split(rows), strict=True):
        total_rows += torch.mm(a_rows, b, out_dtype=total.dtype) if a.is_cuda else torch.mm(a_rows, b)


def _mixture_grads(
    grad: Tensor,
    x: Tensor,
    mixture: tuple[Tensor, Tensor, Tensor],
    options: GMMKernelOptions,
    needs_x: bool,
    needs_mixture: bool,
) -> tuple[Tensor, ...]:
    """log_prob and the gradients of Σ grad · log_prob, which replace mu and scale where that is possible."""
    _, mu, scale = mixture
    if needs_mixture and mu.shape == scale.shape:
        log_prob, grad_x, grad_logits = _binary.ops.gmm_forward_backward_(
            grad, x, *mixture, *options, needs_x
        )
        return log_prob, grad_x, grad_logits, mu, scale
    results = _binary.ops.gmm_forward(x, *mixture, *options)
    needed = (needs_x, *[needs_mixture] * 3)
    return results[0], *_binary.ops.gmm_backward(grad, *results, x, *mixture, *options, *needed)


_INPUTS = (
    "Tensor x, Tensor h, Tensor weight, Tensor? bias, SymInt num_components, bool shared_scale, "
    "ScalarType dtype, SymInt? memory_budget, SymInt scale_param, float min_std, SymInt mixture"
)


@torch.library.custom_op("vtadl_ext::linear_gmm_forward", mutates_args=(), schema=f"({_INPUTS}) -> Tensor")
def linear_gmm_forward(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    """log_prob of each row of x, [N, D], under the mixture that the head makes of a row of h, [N, H]."""
    options = HeadOptions(*arguments)
    head = _Head(x, weight, bias, options)
    log_prob = x.new_empty(len(x), dtype=_log_prob_dtype(x, options.dtype))
    for rows in head.chunks(len(x), options.memory_budget):
        x_rows, h_rows = x[rows].to(head.likelihood_dtype), h[rows].to(options.dtype)
        mixture = head.mixtures(h_rows)
        log_prob[rows] = _binary.ops.gmm_forward(x_rows, *mixture, *options.of_likelihood(), False)[0]
    return log_prob


@torch.library.custom_op(
    "vtadl_ext::linear_gmm_forward_backward",
    mutates_args=(),
    schema=(
        f"(Tensor grad, {_INPUTS}, bool needs_x, bool needs_h, bool needs_weight, bool needs_bias)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def linear_gmm_forward_backward(
    grad: Tensor, x: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any
) -> tuple[Tensor, ...]:
    """log_prob of each row, and the gradients of Σ grad · log_prob. Those that are not needed are empty."""
    options, (needs_x, *needs_head) = HeadOptions(*arguments[:-4]), arguments[-4:]
    head = _Head(x, weight, bias, options)
    head_grads = _HeadGrads(head, h, weight, bias, needs_head)
    log_prob = x.new_empty(len(x), dtype=_log_prob_dtype(x, options.dtype))
    grad_x = torch.empty_like(x) if needs_x else x.new_empty(0)
    for rows in head.chunks(len(x), options.memory_budget):
        x_rows, h_rows = x[rows].to(head.likelihood_dtype), h[rows].to(options.dtype)
        log_prob[rows], grad_x_rows, *mixture_grads = _mixture_grads(
            grad[rows],
            x_rows,
            head.mixtures(h_rows),
            options.of_likelihood(),
            needs_x,
            head_grads.any_needed,
        )
        if needs_x:
            grad_x[rows] = grad_x_rows
        if head_grads.any_needed:
            head_grads.add(rows, h_rows, mixture_grads)
    return log_prob, grad_x, *head_grads.results()


@linear_gmm_forward.register_fake
def _(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    return _empty_log_prob(x, HeadOptions(*arguments))


@linear_gmm_forward_backward.register_fake
def _(
    grad: Tensor, x: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any
) -> tuple[Tensor, ...]:
    options, needed = HeadOptions(*arguments[:-4]), arguments[-4:]
    tensors = (x, h, weight, weight[:, 0])
    return _empty_log_prob(x, options), *(
        tensor.new_empty(tensor.shape if need else (0,)) for tensor, need in zip(tensors, needed, strict=True)
    )


def _empty_log_prob(x: Tensor, options: HeadOptions) -> Tensor:
    return x.new_empty(x.shape[0], dtype=_log_prob_dtype(x, options.dtype))


# ----------------------------------------------------------------------------------------------------- FLOPs


def _product_flops(h: Sequence[int], weight: Sequence[int]) -> int:
    return 2 * h[0] * weight[0] * weight[1]


@register_flop_formula(torch.ops.vtadl_ext.linear_gmm_forward)
def _(x: Any, h: Any, weight: Any, *arguments: Any, **_: Any) -> int:
    """The products alone, as PyTorch counts them."""
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
        # The batch consists of more rows for the same head.
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
    def forward(*arguments: Any) -> Tensor:
        return linear_gmm_forward(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.options = HeadOptions(*inputs[4:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[:4]
        grads = _linear_gmm_gradients(grad, ctx.saved_tensors, ctx.options, needed)
        return *grads, *[None] * len(ctx.options)


class LinearGMMLoss(torch.autograd.Function):
    """Σ -log_prob / `divisor`, with the gradients computed in the forward pass: no mixture is computed twice.

    The loss is otherwise the same as GMMLoss.
    """

    @staticmethod
    def forward(ctx: Any, divisor: int, *arguments: Any) -> Tensor:
        x, options = arguments[0], HeadOptions(*arguments[4:])
        grad = x.new_full((len(x),), -1 / max(divisor, 1), dtype=_log_prob_dtype(x, options.dtype))
        log_prob, *grads = linear_gmm_forward_backward(grad, *arguments, *ctx.needs_input_grad[1:5])
        save_for_loss(ctx, arguments[:4], grads)
        ctx.divisor, ctx.options = divisor, options
        return -(log_prob.sum() / divisor)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:5]
        inputs, saved_grads = saved_by_loss(ctx, grad, needed)
        if saved_grads is not None:
            grads = where_needed(saved_grads, needed)
        else:
            row_grad = (-grad / ctx.divisor).expand(len(inputs[0]))
            grads = _linear_gmm_gradients(row_grad, inputs, ctx.options, needed)
        return None, *grads, *[None] * len(ctx.options)


def _linear_gmm_gradients(
    grad: Tensor, inputs: Sequence[Tensor | None], options: HeadOptions, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    def operator(grad: Tensor, *inputs: Tensor | None) -> list[Tensor]:
        _, *grads = linear_gmm_forward_backward(grad, *inputs, *options, *needed)
        return [part for part, need in zip(grads, needed, strict=True) if need]

    return gradients(operator, partial(_fallback.linear_gmm_formula, options), grad, inputs, needed)
