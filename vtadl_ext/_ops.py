"""The raw operators of the binary: fake kernels, vmap and autograd."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

try:
    from vtadl_ext import _C
except ImportError as error:
    raise ImportError(
        f"vtadl_ext has no compiled binary for this Python and PyTorch ({error}). Build it from the source "
        "folder: pip install --no-build-isolation -e . (PyTorch >= 2.10 and a C++17 compiler are needed)."
    ) from error

build_info = _C.build_info
_ops = torch.ops.vtadl_ext
_KERNEL_DEVICES = {"cpu", "meta"} | ({"cuda"} if build_info()["cuda"] else set())
_warned_devices: set[str] = set()


def has_kernels(device: torch.device) -> bool:
    """Whether the binary serves this device; warns once for each kind that it does not."""
    if device.type in _KERNEL_DEVICES:
        return True
    if device.type not in _warned_devices:
        _warned_devices.add(device.type)
        advice = (
            "; nvcc was not found when it was built: put it on the PATH and reinstall"
            if device.type == "cuda"
            else ""
        )
        warnings.warn(
            f"this build of vtadl_ext has no kernels for {device.type} tensors{advice}. They run "
            "vtadl_ext.reference, which is slower and takes more memory.",
            stacklevel=3,
        )
    return False


def _accumulate_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


# --------------------------------------------------------------------------------------------- fake kernels


@torch.library.register_fake("vtadl_ext::gmm_forward")
def _(
    x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor, scale_param: int, min_std: float, weighted: bool
) -> tuple[Tensor, Tensor]:
    samples = torch.broadcast_shapes(x.shape[:-1], logits.shape[:-1], mu.shape[:-2], scale.shape[:-2])
    dtype = _accumulate_dtype(x)
    return x.new_empty(samples, dtype=dtype), x.new_empty((*samples, logits.shape[-1]), dtype=dtype)


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
    weighted: bool,
    needs_x: bool,
    needs_logits: bool,
    needs_mu: bool,
    needs_scale: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = _accumulate_dtype(x)
    return (
        x.new_empty((*log_prob.shape, x.shape[-1]) if needs_x else (0,), dtype=dtype),
        x.new_empty(component_log_prob.shape if needs_logits else (0,), dtype=dtype),
        mu.new_empty(mu.shape if needs_mu else (0,)),
        scale.new_empty(scale.shape if needs_scale else (0,)),
    )


@torch.library.register_fake("vtadl_ext::ssim_forward")
def _(x: Tensor, y: Tensor, window: Sequence[float], c1: float, c2: float, map: bool) -> Tensor:
    margin = len(window) - 1
    last = (x.shape[-2] - margin, x.shape[-1] - margin) if map else ()
    return x.new_empty((*x.shape[:-2], *last), dtype=_accumulate_dtype(x))


@torch.library.register_fake("vtadl_ext::ssim_backward")
def _(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    window: Sequence[float],
    c1: float,
    c2: float,
    map: bool,
    needs_x: bool,
    needs_y: bool,
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if needs_x else (0,)), x.new_empty(x.shape if needs_y else (0,))


# ------------------------------------------------------------------------------------------------------ vmap


def _batch_first(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


# Dimensions of x, logits, mu and scale behind the leading ones.
_GMM_EVENT_DIMS = (1, 1, 2, 2)


def _align(tensor: Tensor, batch: int, rank: int, event_dims: int) -> Tensor:
    """[batch, *, event] with `rank` dimensions for `*`: broadcasting aligns them from the right."""
    missing = rank - (tensor.dim() - 1 - event_dims)
    return tensor.reshape(batch, *[1] * missing, *tensor.shape[1:])


def _claim_batch(
    grads: tuple[Tensor, ...], needed: tuple[bool, ...], batch_size: int
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Batched gradients and their batch dimensions. Those that nobody needs are empty, and get one too."""
    batched = (grad if need else grad.expand(batch_size, 0) for grad, need in zip(grads, needed, strict=True))
    return tuple(batched), (0,) * len(grads)


@torch.library.register_vmap("vtadl_ext::gmm_forward")
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    tensors, options = arguments[:4], arguments[4:]
    described = list(zip(tensors, in_dims[:4], _GMM_EVENT_DIMS, strict=True))
    rank = max(tensor.dim() - (dim is not None) - event_dims for tensor, dim, event_dims in described)
    aligned = [
        # What is not batched broadcasts.
        tensor if dim is None else _align(tensor.movedim(dim, 0), info.batch_size, rank, event_dims)
        for tensor, dim, event_dims in described
    ]
    return _ops.gmm_forward(*aligned, *options), (0, 0)


@torch.library.register_vmap("vtadl_ext::gmm_backward")
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    batched = [
        _batch_first(tensor, dim, info.batch_size)
        for tensor, dim in zip(arguments[:7], in_dims[:7], strict=True)
    ]
    results, inputs, needed = batched[:3], batched[3:], arguments[-4:]
    aligned = [
        _align(tensor, info.batch_size, results[0].dim() - 1, event_dims)
        for tensor, event_dims in zip(inputs, _GMM_EVENT_DIMS, strict=True)
    ]
    grad_x, grad_logits, grad_mu, grad_scale = _ops.gmm_backward(*results, *aligned, *arguments[7:])
    if needed[2]:
        grad_mu = grad_mu.reshape(inputs[2].shape)
    if needed[3]:
        grad_scale = grad_scale.reshape(inputs[3].shape)
    return _claim_batch((grad_x, grad_logits, grad_mu, grad_scale), needed, info.batch_size)


@torch.library.register_vmap("vtadl_ext::ssim_forward")
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
    images = (
        _batch_first(image, dim, info.batch_size)
        for image, dim in zip(arguments[:2], in_dims[:2], strict=True)
    )
    return _ops.ssim_forward(*images, *arguments[2:]), 0


@torch.library.register_vmap("vtadl_ext::ssim_backward")
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    tensors = (
        _batch_first(tensor, dim, info.batch_size)
        for tensor, dim in zip(arguments[:3], in_dims[:3], strict=True)
    )
    grads = _ops.ssim_backward(*tensors, *arguments[3:])
    return _claim_batch(grads, arguments[-2:], info.batch_size)


# -------------------------------------------------------------------------------------------------- autograd


class _OnceDifferentiable(torch.autograd.Function):
    """A backward operator, whose own derivative is an error that says what to do instead."""

    generate_vmap_rule = True

    @staticmethod
    def forward(name: str, *arguments: Any) -> tuple[Tensor, ...]:
        return getattr(_ops, f"{name}_backward")(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(
            f"vtadl_ext's {ctx.name} operators have first derivatives only; for higher ones use those of the "
            "same name in vtadl_ext.reference"
        )


def _backward(name: str, *arguments: Any) -> tuple[Tensor, ...]:
    # torch.compile has no second derivatives, and cannot trace one autograd.Function inside another.
    run = _OnceDifferentiable.forward if torch.compiler.is_compiling() else _OnceDifferentiable.apply
    return run(name, *arguments)


class GMMLogProb(torch.autograd.Function):
    """`(log_prob, component_log_prob)`; the latter serves the backward pass alone."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        return _ops.gmm_forward(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*output, *inputs[:4])
        ctx.options = inputs[4:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[:4]
        grads = _backward("gmm", grad, *ctx.saved_tensors, *ctx.options, *needed)
        # Those of x and logits have a row for each sample, which samples may share.
        fitted = (
            grad.sum_to_size(tensor.shape).to(tensor.dtype) if need else None
            for grad, tensor, need in zip(grads, ctx.saved_tensors[2:], needed, strict=True)
        )
        return *fitted, None, None, None


class SSIM(torch.autograd.Function):
    """The map, or its sum over each plane."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        return _ops.ssim_forward(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.options = inputs[2:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[:2]
        grads = _backward("ssim", grad, *ctx.saved_tensors, *ctx.options, *needed)
        wanted = (grad if need else None for grad, need in zip(grads, needed, strict=True))
        return *wanted, None, None, None, None
