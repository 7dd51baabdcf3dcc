"""A linear head and the likelihood of its Gaussian mixtures in one, whose memory does not grow with them."""

import math

import torch
from torch import Tensor

from vtadl_ext import _binary, _fallback
from vtadl_ext._autograd import computes_grads_in_forward, kernels_serve
from vtadl_ext._checks import (
    check_count,
    check_flag,
    check_option,
    check_sample_weight,
    check_tensors,
    checked_tensors,
    is_autocast,
)
from vtadl_ext._linear_gmm_ops import LinearGMMLoss, linear_gmm_log_prob
from vtadl_ext._options import HeadOptions, ScaleOptions
from vtadl_ext._reductions import reduce, reduce_weighted
from vtadl_ext._shapes import broadcast_shapes

_REDUCTIONS = ("mean", "sum", "none")


def linear_gmm_nll(
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    num_components: int,
    scale_param: str = "log_std",
    min_std: float = 0.0,
    mixture: str = "logsumexp",
    shared_scale: bool = False,
    memory_budget: int | None = None,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of samples under the Gaussian mixtures that a linear layer predicts, in nats.

    The result is that of :func:`gmm_nll` for the output of ``torch.nn.functional.linear(h, weight, bias)``.
    That output dwarfs everything else in a mixture density network, so it and its gradient exist for some
    rows at a time only. :class:`MixtureHead` has a weight and a bias of this layout.

    Args:
        x: samples, ``[*, D]``.
        h: features that predict the mixtures, ``[*, H]``. The dimensions ``*`` broadcast. If several samples
            share a row, its mixture is computed for each of them.
        weight: ``[K + K * D + S, H]``: rows for the logits, for mu (the features of one component after those
            of another), and for the scale. S is K * D for diagonal covariances, in the order of mu, and K for
            spherical ones; with `shared_scale` it is D or 1.
        bias: ``[K + K * D + S]``, or None for none.
        num_components: K.
        scale_param, min_std, mixture: as in :func:`gmm_nll`.
        shared_scale: whether the components of a mixture share one scale.
        memory_budget: bytes that the mixtures of a chunk of rows may take; a chunk has at least one row. The
            default is a sixteenth of the memory for all rows, or 192 rows or 16 MiB (on a GPU 128 MiB) if
            that is more. Small budgets cost time, because each chunk reads the whole weight and adds to its
            whole gradient.
        sample_weight, reduction: as in :func:`gmm_nll`.

    Returns:
        A scalar, or ``[*]`` under ``reduction="none"``; float32 for half-precision input.

    Raises:
        TypeError: an argument is no tensor, or has another dtype than `x` outside of autocast.
        ValueError: a shape, device or option does not fit; the message names it.
    """
    tensors = {"x": x, "h": h, "weight": weight} | ({} if bias is None else {"bias": bias})
    dtype = _product_dtype(tensors)
    check_count("num_components", num_components)
    num_components = int(num_components)
    check_flag("shared_scale", shared_scale)
    batch_shape = _check_shapes(tensors, num_components, shared_scale)
    ScaleOptions(scale_param, min_std).check()
    check_option("mixture", mixture, _binary.MIXTURES)
    check_option("reduction", reduction, _REDUCTIONS)
    if memory_budget is not None:
        check_count("memory_budget", memory_budget)
        memory_budget = int(memory_budget)
    if sample_weight is not None:
        check_sample_weight(sample_weight, batch_shape, x.device)
    if not kernels_serve(x, h, weight, bias):
        return _fallback.linear_gmm_nll(
            *(x, h, weight, bias),
            num_components=num_components,
            scale_param=scale_param,
            min_std=min_std,
            mixture=mixture,
            shared_scale=shared_scale,
            sample_weight=sample_weight,
            reduction=reduction,
        )
    rows = tuple(_rows(tensor, batch_shape) for tensor in (x, h))
    options = HeadOptions(
        num_components,
        shared_scale,
        dtype,
        memory_budget,
        _binary.SCALE_PARAM_NAMES.index(scale_param),
        float(min_std),
        _binary.MIXTURES.index(mixture),
    )
    # In float16 gradients would vanish before the factor of a loss scaler could reach them.
    is_loss = sample_weight is None and reduction != "none" and dtype != torch.float16
    if is_loss and computes_grads_in_forward(list(tensors.values())):
        divisor = math.prod(batch_shape) if reduction == "mean" else 1
        return LinearGMMLoss.apply(divisor, *rows, weight, bias, *options)  # type: ignore[no-any-return]
    nll = -linear_gmm_log_prob(*_move_nonfinite_to_x(*rows), weight, bias, *options)
    if len(batch_shape) != 1 and (reduction == "none" or sample_weight is not None):
        nll = nll.reshape(batch_shape)
    return reduce(nll, reduction) if sample_weight is None else reduce_weighted(nll, sample_weight, reduction)


def _move_nonfinite_to_x(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The same rows, with NaN in x and 0 in h for each row of h that is not finite.

    A sample whose upstream gradient is 0 must not change any gradient, whatever it holds. The kernels ensure
    that for x. The products of the head could not for h, because 0 times NaN is NaN.
    """
    broken = ~h.isfinite().all(-1, keepdim=True)
    offset = torch.zeros_like(broken, dtype=x.dtype).masked_fill(broken, math.nan)
    return x + offset, h.masked_fill(broken, 0)


def _rows(tensor: Tensor, batch_shape: torch.Size) -> Tensor:
    """The tensor as [N, H]. N is not computed where that is possible, because a trace would remember it."""
    if tensor.shape[:-1] != batch_shape:
        tensor = tensor.expand(*batch_shape, -1)
    return tensor if tensor.dim() == 2 else tensor.contiguous().view(-1, tensor.shape[-1])


def _product_dtype(tensors: dict[str, Tensor]) -> torch.dtype:
    """The dtype in which torch.nn.functional.linear multiplies, once the tensors are checked."""
    check_tensors(**tensors)
    device = tensors["x"].device
    if not is_autocast(device):
        return checked_tensors(**tensors)[0].dtype
    if any(tensors[name].dtype == torch.float64 for name in ("h", "weight")):
        return torch.float64  # autocast leaves it as it is
    return torch.get_autocast_dtype(device.type)


def _check_shapes(tensors: dict[str, Tensor], components: int, shared_scale: bool) -> torch.Size:
    """The leading dimensions of all samples."""
    x, h, weight = (tensors[name] for name in ("x", "h", "weight"))
    for name, letter in (("x", "D"), ("h", "H")):
        shape = tensors[name].shape
        if len(shape) < 1 or shape[-1] < 1:
            raise ValueError(f"{name} must have shape [*, {letter}] with {letter} >= 1, got {list(shape)}")
    features, width = x.shape[-1], h.shape[-1]
    means = components * features
    scales = (features, 1) if shared_scale else (means, components)
    rows = [components + means + scale for scale in scales]
    if weight.dim() != 2 or weight.shape[0] not in rows or weight.shape[1] != width:
        wanted = " or ".join(map(str, dict.fromkeys(rows)))
        raise ValueError(
            f"weight must have shape [{wanted}, {width}], with K = {components}, "
            f"shared_scale = {shared_scale}, D = {features} from x and H = {width} from h, "
            f"got {list(weight.shape)}"
        )
    bias = tensors.get("bias")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"bias must have shape [{weight.shape[0]}], one for each row of weight, got {list(bias.shape)}"
        )
    try:
        return broadcast_shapes(x.shape[:-1], h.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"h has leading dimensions {list(h.shape[:-1])}, which do not broadcast with those of x, "
            f"{list(x.shape[:-1])}"
        ) from None
