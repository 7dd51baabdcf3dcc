"""The mixture operators in plain PyTorch."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl_ext.reference._reductions import reduce, reduce_weighted, widen


def gmm_nll(
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor | None = None,
    *,
    scale_tril: Tensor | None = None,
    scale_param: str = "log_std",
    min_std: float = 0.0,
    mixture: str = "logsumexp",
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Reference of :func:`vtadl_ext.gmm_nll`."""
    if sample_weight is not None:
        inputs = (x, logits, mu, scale, scale_tril)

        def nll_of(*inputs: Tensor | None) -> Tensor:
            *tensors, scale_tril = inputs
            options: dict[str, Any] = {"scale_param": scale_param, "min_std": min_std, "mixture": mixture}
            return gmm_nll(*tensors, scale_tril=scale_tril, **options, reduction="none")  # type: ignore[arg-type]

        with torch.no_grad():
            ignored = (sample_weight == 0) & ~nll_of(*inputs).isfinite()
        nll = nll_of(*ignore_samples(ignored, inputs, EVENT_DIMS)).masked_fill(ignored, 0)
        return reduce_weighted(nll, sample_weight, reduction)
    log_pi, log_normal = component_log_probs(x, logits, mu, scale, scale_tril, scale_param, min_std)

    def mix(log_pi: Tensor, log_normal: Tensor) -> Tensor:
        if mixture == "weighted":
            pi = log_pi.exp()
            return (pi * log_normal.masked_fill(pi == 0, 0)).sum(-1)
        return torch.logsumexp(log_pi + log_normal, -1)

    # Infinite densities have no slope. They are taken out before infinities meet in the gradient.
    density = mix(log_pi.detach(), log_normal.detach())
    infinite = density.isinf()
    log_prob = mix(log_pi, log_normal.masked_fill(infinite.unsqueeze(-1), 0))
    nll = -torch.where(infinite, density, log_prob)
    return reduce(nll, reduction)


def gmm_log_prob(
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor | None = None,
    *,
    scale_tril: Tensor | None = None,
    scale_param: str = "log_std",
    min_std: float = 0.0,
) -> Tensor:
    """Reference of :func:`vtadl_ext.gmm_log_prob`."""
    options = {"scale_tril": scale_tril, "scale_param": scale_param, "min_std": min_std}
    return -gmm_nll(x, logits, mu, scale, **options, reduction="none")  # type: ignore[arg-type]


def gmm_responsibilities(
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor | None = None,
    *,
    scale_tril: Tensor | None = None,
    scale_param: str = "log_std",
    min_std: float = 0.0,
) -> Tensor:
    """Reference of :func:`vtadl_ext.gmm_responsibilities`."""
    log_pi, log_normal = component_log_probs(x, logits, mu, scale, scale_tril, scale_param, min_std)
    joint = log_pi + log_normal
    impossible = (joint == -math.inf).all(-1, keepdim=True)
    # An infinite density takes all of the probability.
    joint = joint.masked_fill(impossible, 0).masked_fill(joint == math.inf, torch.finfo(joint.dtype).max)
    return joint.softmax(-1).masked_fill(impossible, 0)


@torch.no_grad()
def gmm_sample(
    logits: Tensor,
    mu: Tensor,
    scale: Tensor | None = None,
    *,
    scale_tril: Tensor | None = None,
    scale_param: str = "log_std",
    min_std: float = 0.0,
    temperature: float = 1.0,
    sample_shape: Iterable[int] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Reference of :func:`vtadl_ext.gmm_sample`. It draws the same samples from the same generator."""
    dtype, sample_shape = mu.dtype, tuple(sample_shape)
    scale_or_tril, scale_dims = (scale_tril, 2) if scale is None else (scale, 1)
    assert scale_or_tril is not None
    logits, mu, scale_or_tril = map(widen, (logits, mu, scale_or_tril))
    batch = torch.broadcast_shapes(logits.shape[:-1], mu.shape[:-2], scale_or_tril.shape[: -scale_dims - 1])
    shape, features = (*sample_shape, *batch), max(mu.shape[-1], scale_or_tril.shape[-1])
    if math.prod(shape) == 0:
        return mu.new_empty((*shape, features), dtype=dtype)

    pi = _tempered(logits, temperature).softmax(-1)
    undefined = pi.isnan().any(-1, keepdim=True)  # all components are masked, or a logit is NaN
    rows = pi.masked_fill(undefined, 1).expand(*batch, pi.shape[-1]).reshape(-1, pi.shape[-1])
    count = math.prod(sample_shape)
    if count == 1:  # as torch.multinomial, without its check of the numbers, which waits for a GPU
        k = (rows / torch.empty_like(rows).exponential_(generator=generator)).argmax(-1).reshape(shape)
    else:
        k = torch.multinomial(rows, count, replacement=True, generator=generator).T.reshape(shape)

    def of_component(parameter: Tensor, event_dims: int) -> Tensor:
        parameter = parameter.expand(*shape, pi.shape[-1], *parameter.shape[-event_dims:])
        index = k.reshape(*shape, *[1] * (event_dims + 1))
        return torch.take_along_dim(parameter, index, -event_dims - 1).squeeze(-event_dims - 1)

    noise = torch.randn((*shape, features), generator=generator, dtype=mu.dtype, device=mu.device)
    if scale is None:
        noise = (of_component(scale_or_tril, 2).tril() @ noise.unsqueeze(-1)).squeeze(-1)
    else:
        noise = _log_std(of_component(scale_or_tril, 1), scale_param, min_std).exp() * noise
    return (of_component(mu, 1) + math.sqrt(temperature) * noise).masked_fill(undefined, math.nan).to(dtype)


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 1:
        return logits
    largest = logits.amax(-1, keepdim=True)
    if temperature > torch.finfo(logits.dtype).tiny:
        return (logits - largest) / temperature
    first = (logits == largest) & ((logits == largest).cumsum(-1) == 1)
    return logits.masked_fill(~first, -math.inf)


EVENT_DIMS = (1, 1, 2, 2, 3)  # of x, logits, mu, scale and scale_tril


def ignore_samples(
    ignored: Tensor, tensors: Sequence[Tensor | None], event_dims: Sequence[int]
) -> list[Tensor | None]:
    """The tensors, with 1 instead of what belongs to ignored samples alone, so that it has no gradient."""
    return [
        tensor
        if tensor is None or (tensor.dim() == dims and ignored.dim() > 0)  # all samples share it
        else tensor.masked_fill(ignored.reshape(*ignored.shape, *[1] * dims), 1)
        for tensor, dims in zip(tensors, event_dims, strict=True)
    ]


def component_log_probs(
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor | None,
    scale_tril: Tensor | None,
    scale_param: str,
    min_std: float,
) -> tuple[Tensor, Tensor]:
    """log π_k and log N_k, ``[*, K]``. Where all components are masked, every log N_k is -inf."""
    logits = widen(logits)
    is_masked = logits == -math.inf
    log_pi = logits.masked_fill(is_masked.all(-1, keepdim=True), 0).log_softmax(-1)
    # The parameters of masked components may be NaN, which must not reach the gradients.
    absent = is_masked.unsqueeze(-1)
    distance = widen(x).unsqueeze(-2) - widen(mu).masked_fill(absent, 0)
    if scale is None:
        assert scale_tril is not None
        tril = widen(scale_tril).masked_fill(absent.unsqueeze(-1), 1).tril()
        z = torch.linalg.solve_triangular(tril, distance.unsqueeze(-1), upper=False).squeeze(-1)
        log_std = _log(tril.diagonal(dim1=-2, dim2=-1))
    else:
        log_std = _log_std(widen(scale).masked_fill(absent, 1), scale_param, min_std)
        limits = torch.finfo(log_std.dtype)
        smallest = math.log(limits.tiny)
        z = distance * torch.exp(-log_std.masked_fill(log_std < smallest, smallest))
        # z stays finite where its square is not, because 0 times infinity is no gradient.
        largest = 2 * limits.max**0.5
        z = z.masked_fill(z > largest, largest).masked_fill(z < -largest, -largest)
    squares = z.square().sum(-1)
    log_det = log_std.expand_as(z).sum(-1)  # one log_std may stand for all features
    log_normal = -0.5 * (squares + z.shape[-1] * math.log(2 * math.pi)) - log_det
    is_far = (squares == math.inf) & (log_det == -math.inf)
    return log_pi, log_normal.masked_fill(is_far | absent.all(-2), -math.inf)


def _log_std(scale: Tensor, scale_param: str, min_std: float) -> Tensor:
    activation: Callable[[Tensor], Tensor] = {
        "log_std": lambda raw: raw,
        "std": _log,
        "log_var": lambda raw: 0.5 * raw,
        "var": lambda raw: 0.5 * _log(raw),
        "softplus": _log_softplus,
        "precision": lambda raw: -0.5 * _log(raw),
    }[scale_param]
    if min_std == 0:
        return activation(scale)
    floored = activation(scale) < math.log(min_std)
    # The scale is masked too, because 0 times the infinite slope of a logarithm is no gradient.
    return activation(scale.masked_fill(floored, 1)).masked_fill(floored, math.log(min_std))


def _log(raw: Tensor) -> Tensor:
    """The logarithm. At 0 its gradient is 0, because 0 / 0 would be NaN."""
    return raw.masked_fill(raw == 0, 1).log().masked_fill(raw == 0, -math.inf)


def _log_softplus(raw: Tensor) -> Tensor:
    tiny = raw < -50  # here softplus(raw) is exp(raw), which may underflow
    return torch.where(tiny, raw, F.softplus(raw.masked_fill(tiny, 0), threshold=50).log())
