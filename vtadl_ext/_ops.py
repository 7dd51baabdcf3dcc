"""The raw operators of the binary: fake kernels, vmap and autograd."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

# How the operators number their options: the enums in csrc/gmm/gmm.h.
SCALE_PARAMS = ("log_std", "std", "log_var", "var", "softplus")
TRIL = len(SCALE_PARAMS)
MIXTURES = ("logsumexp", "weighted")
_NO_MIXTURE = len(MIXTURES)

# The sums that the operators make over each pair of planes: SsimSums in csrc/ssim/ssim.h.
INDEX, WINDOWS, SQUARED_ERRORS, ABSOLUTE_ERRORS = range(4)
_SUMS = 4


_reference_alone = False


@contextmanager
def use_reference() -> Iterator[None]:
    """Within this block all functions compute with :mod:`vtadl_ext.reference`, in all threads.

    What is traced within it, by :func:`torch.export.export` say, consists of PyTorch's own operators and runs
    where vtadl_ext is not installed. :func:`torch.onnx.export` needs no such block.
    """
    global _reference_alone
    before, _reference_alone = _reference_alone, True
    try:
        yield
    finally:
        _reference_alone = before


def has_kernels(device: torch.device, stacklevel: int = 3) -> bool:
    """Whether the binary serves this device, and may; warns once for each kind that it does not serve."""
    if _reference_alone or torch.onnx.is_in_onnx_export():
        return False
    if device.type in _KERNEL_DEVICES:
        return True
    if device.type not in _warned_devices:
        _warned_devices.add(device.type)
        advice = (
            "; it was built without CUDA: reinstall with nvcc 12.0 or newer on the PATH and VTADL_CUDA=ON"
            if device.type == "cuda"
            else ""
        )
        warnings.warn(
            f"this build of vtadl_ext has no kernels for {device.type} tensors{advice}. They run "
            "vtadl_ext.reference, which is slower and takes more memory.",
            stacklevel=stacklevel,
        )
    return False


# Whether one of torch.func's transformations is at work; where nobody can tell, it may be.
functorch_is_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
# The same for the gradients that torch.autograd.grad takes for its is_grads_batched.
_is_legacy_batched = getattr(torch._C._functorch, "is_legacy_batchedtensor", lambda _: True)


def _accumulate_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


# --------------------------------------------------------------------------------------------- fake kernels


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
    dtype = _accumulate_dtype(x)
    log_prob = x.new_empty((0,) if mixture == _NO_MIXTURE else samples, dtype=dtype)
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
    log_prob = x.new_empty(samples, dtype=_accumulate_dtype(x))
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
    log_prob = x.new_empty(samples, dtype=_accumulate_dtype(x))
    grads = _empty_gmm_grads(x, logits, mu, scale, samples, (needs_x, True, False, False))
    return log_prob, *grads[:2]


def gmm_event_dims(scale_param: int) -> tuple[int, int, int, int]:
    """Dimensions of x, logits, mu and scale behind the leading ones."""
    return 1, 1, 2, 3 if scale_param == TRIL else 2


def gmm_samples(tensors: Sequence[Tensor], scale_param: int) -> torch.Size:
    """The leading dimensions of x, logits, mu and scale, broadcast."""
    described = zip(tensors, gmm_event_dims(scale_param), strict=True)
    return broadcast_shapes(*(tensor.shape[: tensor.dim() - dims] for tensor, dims in described))


def broadcast_shapes(first: torch.Size, *others: torch.Size) -> torch.Size:
    """PyTorch's function, which takes as long as a small kernel, where the shapes are not the same."""
    if all(other == first for other in others):
        return first
    return torch.broadcast_shapes(first, *others)  # type: ignore[no-any-return]


def _empty_gmm_grads(
    x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor, samples: Sequence[int], needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = _accumulate_dtype(x)
    needs_x, needs_logits, needs_mu, needs_scale = needs
    return (
        x.new_empty((*samples, x.shape[-1]) if needs_x else (0,), dtype=dtype),
        x.new_empty((*samples, logits.shape[-1]) if needs_logits else (0,), dtype=dtype),
        mu.new_empty(mu.shape if needs_mu else (0,)),
        scale.new_empty(scale.shape if needs_scale else (0,)),
    )


@torch.library.register_fake("vtadl_ext::scale_")
def _(tensor: Tensor, factor: Tensor) -> None:
    return None


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
    last = (x.shape[-2] + grown, x.shape[-1] + grown) if map else (_SUMS,)
    return x.new_empty((*x.shape[:-2], *last), dtype=_accumulate_dtype(x))


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
    sums = x.new_empty((*x.shape[:-2], _SUMS), dtype=_accumulate_dtype(x))
    return sums, *_empty_ssim_grads(x, y, needs)


def _empty_ssim_grads(x: Tensor, y: Tensor, needs: Sequence[bool]) -> tuple[Tensor, ...]:
    return tuple(
        torch.empty_like(image) if need else image.new_empty((0,))
        for image, need in zip((x, y), needs, strict=True)
    )


# ------------------------------------------------------------------------------------------------------ vmap


def _batch_first(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


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
    described = list(zip(tensors, in_dims[:4], gmm_event_dims(options[0]), strict=True))
    rank = max(tensor.dim() - (dim is not None) - event_dims for tensor, dim, event_dims in described)
    aligned = [
        # What is not batched broadcasts.
        tensor if dim is None else _align(tensor.movedim(dim, 0), info.batch_size, rank, event_dims)
        for tensor, dim, event_dims in described
    ]
    log_prob, component_log_prob = _ops.gmm_forward(*aligned, *options)
    if len(options) > 3 and not options[3]:
        component_log_prob = component_log_prob.expand(info.batch_size, 0)
    if options[2] == _NO_MIXTURE:
        log_prob = log_prob.expand(info.batch_size, 0)
    return (log_prob, component_log_prob), (0, 0)


@torch.library.register_vmap("vtadl_ext::gmm_backward")
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    batched = [
        _batch_first(tensor, dim, info.batch_size)
        for tensor, dim in zip(arguments[:7], in_dims[:7], strict=True)
    ]
    (grad, log_prob, component_log_prob), inputs = batched[:3], batched[3:]
    options, needed = arguments[7:-4], arguments[-4:]
    aligned = [
        _align(tensor, info.batch_size, component_log_prob.dim() - 2, event_dims)
        for tensor, event_dims in zip(inputs, gmm_event_dims(options[0]), strict=True)
    ]
    grad_x, grad_logits, grad_mu, grad_scale = _ops.gmm_backward(
        grad, log_prob, component_log_prob, *aligned, *options, *needed
    )
    if needed[2]:
        grad_mu = grad_mu.reshape(inputs[2].shape)
    if needed[3]:
        grad_scale = grad_scale.reshape(inputs[3].shape)
    return _claim_batch((grad_x, grad_logits, grad_mu, grad_scale), needed, info.batch_size)


def _batch_into_images(
    info: Any, in_dims: Sequence[int | None], tensors: Sequence[Tensor | None]
) -> Iterator[Tensor | None]:
    """The batch as so many more images."""
    for tensor, dim in zip(tensors, in_dims, strict=True):
        yield None if tensor is None else _batch_first(tensor, dim, info.batch_size).flatten(0, 1)


@torch.library.register_vmap("vtadl_ext::ssim_forward")
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
    tensors = _batch_into_images(info, in_dims[:3], arguments[:3])
    return _ops.ssim_forward(*tensors, *arguments[3:]).unflatten(0, (info.batch_size, -1)), 0


@torch.library.register_vmap("vtadl_ext::ssim_backward")
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    needed = arguments[-2:]
    tensors = _batch_into_images(info, in_dims[:4], arguments[:4])
    grads = _ops.ssim_backward(*tensors, *arguments[4:])
    grads = tuple(
        grad.unflatten(0, (info.batch_size, -1)) if need else grad
        for grad, need in zip(grads, needed, strict=True)
    )
    return _claim_batch(grads, needed, info.batch_size)


# -------------------------------------------------------------------------------------------------- autograd


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


def _backward(name: str, *arguments: Any) -> tuple[Tensor, ...]:
    return once_differentiable(name, getattr(_ops, f"{name}_backward"), *arguments)


def is_plain_backward(grad: Tensor) -> bool:
    """Whether a backward pass is neither to be differentiated nor one of a batch."""
    return not (torch.is_grad_enabled() or functorch_is_active() or _is_legacy_batched(grad))


def _needs_autograd(tensors: Sequence[Tensor]) -> bool:
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


def gmm_log_prob(*arguments: Any) -> Tensor:
    """log_prob of each sample, `[*]`."""
    if _needs_autograd(arguments[:4]):
        return GMMLogProb.apply(*arguments)[0]  # type: ignore[no-any-return]
    return _ops.gmm_forward(*arguments, False)[0]  # type: ignore[no-any-return]


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
        return _ops.gmm_forward(*arguments)  # type: ignore[no-any-return]

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
        needed = ctx.needs_input_grad[:4]
        grads = _backward("gmm", grad, *ctx.saved_tensors, *ctx.options, *needed)
        return *_gmm_grads(ctx.saved_tensors[2:], needed, grads), None, None, None


class GMMComponentLogProb(torch.autograd.Function):
    """log N_k of each sample under each component, `[*, K]`. The mixture's weights have no part in it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, logits: Tensor, mu: Tensor, scale: Tensor, scale_param: int, min_std: float
    ) -> Tensor:
        options = (scale_param, min_std, _NO_MIXTURE)
        return _ops.gmm_forward(x, logits, mu, scale, *options)[1]  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.options = inputs[4:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        needs_x, _, needs_mu, needs_scale = ctx.needs_input_grad[:4]
        needed = (needs_x, False, needs_mu, needs_scale)
        # Of what the forward pass returned only the shape is needed, which is that of its gradient.
        results = (grad, grad.new_empty(0), grad)
        grads = _backward("gmm", *results, *inputs, *ctx.options, _NO_MIXTURE, *needed)
        return *_gmm_grads(inputs, needed, grads), None, None


class GMMLoss(torch.autograd.Function):
    """Σ -log_prob / `divisor`, with the gradients computed in the forward pass.

    The first backward pass takes them. Another one over the same graph, one that is to be differentiated, or
    a batch of them computes its own. For eager mode alone: the context changes in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, divisor: int, *arguments: Any) -> Tensor:
        inputs, options = arguments[:4], arguments[4:]
        log_prob, *grads = _ops.gmm_forward_backward(
            -1 / max(divisor, 1), *inputs, *options, *ctx.needs_input_grad[1:5]
        )
        ctx.save_for_backward(*inputs, *grads)
        ctx.divisor, ctx.options, ctx.grads_are_taken = divisor, options, False
        return -(log_prob.sum() / divisor)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:5]
        saved = ctx.saved_tensors  # asked for once: torch.utils.checkpoint allows no more
        inputs, grads = saved[:4], saved[4:]
        if ctx.grads_are_taken or not is_plain_backward(grad):
            with torch.no_grad():
                results = _ops.gmm_forward(*inputs, *ctx.options)
            sample_grad = (-grad / ctx.divisor).expand(results[0].shape)
            grads = _backward("gmm", sample_grad, *results, *inputs, *ctx.options, *needed)
        else:
            ctx.grads_are_taken = True
            scale_grads_(grads, needed, grad)
        return None, *_gmm_grads(inputs, needed, grads), None, None, None


def ssim_map(*arguments: Any) -> Tensor:
    """The index of each window."""
    return _ssim(*arguments, True, False)


def ssim_sums(*arguments: Any, errors: bool = False) -> Tensor:
    """Sums over each plane, `[N, C, 4]`, in the order of SsimSums in csrc/ssim/ssim.h."""
    return _ssim(*arguments, False, errors)


def _ssim(*arguments: Any) -> Tensor:
    run = SSIM.apply if _needs_autograd(arguments[:2]) else _ops.ssim_forward
    return run(*arguments)  # type: ignore[no-any-return]


def ssim_total(
    weights: Sequence[float], divisors: Sequence[int], *arguments: Any, errors: bool = False
) -> tuple[Tensor, Tensor]:
    """Σ weight · sum / divisor over the sums of all planes; and the sums, `[N, C, 4]`, without gradients."""
    if takes_gradients_along(arguments[:2]):
        return SSIMTotal.apply(weights, divisors, *arguments, errors)  # type: ignore[no-any-return]
    sums = ssim_sums(*arguments, errors=errors)
    return _weighted_total(sums, weights, divisors), sums.detach()


def _weighted_total(sums: Tensor, weights: Sequence[float], divisors: Sequence[int]) -> Tensor:
    terms = [
        weight * (sums[..., i].sum() / divisor)
        for i, (weight, divisor) in enumerate(zip(weights, divisors, strict=True))
        if weight != 0
    ]
    return sum(terms[1:], terms[0]) if terms else sums.new_zeros(())


class SSIM(torch.autograd.Function):
    """The map, or the sums of each plane."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        return _ops.ssim_forward(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.options = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[:2]
        grads = _backward("ssim", grad, *ctx.saved_tensors, *ctx.options, *needed)
        return *where_needed(grads, needed), *[None] * (1 + len(ctx.options))


class SSIMTotal(torch.autograd.Function):
    """`ssim_total`, with the gradients computed in the forward pass. What GMMLoss says holds here too."""

    @staticmethod
    def forward(
        ctx: Any, weights: Sequence[float], divisors: Sequence[int], *arguments: Any
    ) -> tuple[Tensor, Tensor]:
        images_and_mask, options = arguments[:3], arguments[3:]
        grad_of_sums = [weight / max(n, 1) for weight, n in zip(weights, divisors, strict=True)]
        sums, *grads = _ops.ssim_forward_backward(grad_of_sums, *arguments, *ctx.needs_input_grad[2:4])
        ctx.save_for_backward(*images_and_mask, *grads)
        ctx.grad_of_sums, ctx.options, ctx.grads_are_taken = grad_of_sums, options, False
        ctx.mark_non_differentiable(sums)
        ctx.set_materialize_grads(False)  # zeros for the sums
        return _weighted_total(sums, weights, divisors), sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * (5 + len(ctx.options))
        needed = ctx.needs_input_grad[2:4]
        saved = ctx.saved_tensors  # asked for once: torch.utils.checkpoint allows no more
        images_and_mask, grads = saved[:3], saved[3:]
        if ctx.grads_are_taken or not is_plain_backward(grad):
            grad = torch.stack([weight * grad for weight in ctx.grad_of_sums])
            grad = grad.expand(*images_and_mask[0].shape[:2], _SUMS)
            *options, errors = ctx.options
            grads = _backward("ssim", grad, *images_and_mask, *options, False, errors, *needed)
        else:
            ctx.grads_are_taken = True
            scale_grads_(grads, needed, grad)
        return None, None, *where_needed(grads, needed), *[None] * (1 + len(ctx.options))


def scale_grads_(grads: Sequence[Tensor], needed: Sequence[bool], factor: Tensor) -> None:
    for grad, need in zip(grads, needed, strict=True):
        if need:
            _ops.scale_(grad, factor)


def where_needed(grads: Sequence[Tensor], needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    return tuple(grad if need else None for grad, need in zip(grads, needed, strict=True))
