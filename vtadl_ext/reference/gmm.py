"""The mixture operators in plain PyTorch."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl_ext.reference._sums import reduce, reduce_weighted, widen


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
        tensors: dict[str, Any] = {
            "x": x,
            "logits": logits,
            "mu": mu,
            "scale": scale,
            "scale_tril": scale_tril,
        }
        options: dict[str, Any] = {"scale_param": scale_param, "min_std": min_std, "mixture": mixture}
        options["reduction"] = "none"
        with torch.no_grad():
            left_out = (sample_weight == 0) & ~gmm_nll(**tensors, **options).isfinite()
        kept: dict[str, Any] = {
            name: tensor if tensor is None else without(left_out, tensor, _EVENT_DIMS[name])
            for name, tensor in tensors.items()
        }
        nll = gmm_nll(**kept, **options).masked_fill(left_out, 0)
        return reduce_weighted(nll, sample_weight, reduction)
    log_pi, log_normal = log_components(x, logits, mu, scale, scale_tril, scale_param, min_std)

    def mix(log_pi: Tensor, log_normal: Tensor) -> Tensor:
        if mixture == "weighted":
            pi = log_pi.exp()
            return (pi * log_normal.masked_fill(pi == 0, 0)).sum(-1)
        return torch.logsumexp(log_pi + log_normal, -1)

    # Infinite densities leave the computation before infinities meet: they have no slope.
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
    log_pi, log_normal = log_components(x, logits, mu, scale, scale_tril, scale_param, min_std)
    return shares(log_pi + log_normal)


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
    """Reference of :func:`vtadl_ext.gmm_sample`, which runs this very code."""
    dtype, sample_shape = mu.dtype, tuple(sample_shape)
    spread, spread_dims = (scale_tril, 2) if scale is None else (scale, 1)
    assert spread is not None
    logits, mu, spread = map(widen, (logits, mu, spread))
    batch = torch.broadcast_shapes(logits.shape[:-1], mu.shape[:-2], spread.shape[: -spread_dims - 1])
    shape, features = (*sample_shape, *batch), max(mu.shape[-1], spread.shape[-1])
    if math.prod(shape) == 0:
        return mu.new_empty((*shape, features), dtype=dtype)

    pi = _tempered(logits, temperature).softmax(-1)
    undefined = pi.isnan().any(-1, keepdim=True)  # no components, or a NaN among the logits
    rows = pi.masked_fill(undefined, 1).expand(*batch, pi.shape[-1]).reshape(-1, pi.shape[-1])
    count = math.prod(sample_shape)
    if count == 1:  # as torch.multinomial, but without its look at the numbers, which waits for a GPU
        k = (rows / torch.empty_like(rows).exponential_(generator=generator)).argmax(-1).reshape(shape)
    else:
        k = torch.multinomial(rows, count, replacement=True, generator=generator).T.reshape(shape)

    def drawn(parameter: Tensor, event_dims: int) -> Tensor:
        parameter = parameter.expand(*shape, pi.shape[-1], *parameter.shape[-event_dims:])
        index = k.reshape(*shape, *[1] * (event_dims + 1))
        return torch.take_along_dim(parameter, index, -event_dims - 1).squeeze(-event_dims - 1)

    noise = torch.randn((*shape, features), generator=generator, dtype=mu.dtype, device=mu.device)
    if scale is None:
        noise = (drawn(spread, 2).tril() @ noise.unsqueeze(-1)).squeeze(-1)
    else:
        noise = _log_std(drawn(spread, 1), scale_param, min_std).exp() * noise
    return (drawn(mu, 1) + math.sqrt(temperature) * noise).masked_fill(undefined, math.nan).to(dtype)


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 1:
        return logits
    largest = logits.amax(-1, keepdim=True)
    if temperature > torch.finfo(logits.dtype).tiny:
        return (logits - largest) / temperature
    first = (logits == largest) & ((logits == largest).cumsum(-1) == 1)
    return logits.masked_fill(~first, -math.inf)


def log_weights(logits: Tensor) -> Tensor:
    """log softmax, where a row of -inf alone stands for equal weights: its log N_k have to say -inf."""
    logits = widen(logits)
    return logits.masked_fill((logits == -math.inf).all(-1, keepdim=True), 0).log_softmax(-1)


_EVENT_DIMS = {"x": 1, "logits": 1, "mu": 2, "scale": 2, "scale_tril": 3}


def without(left_out: Tensor, tensor: Tensor, event_dims: int) -> Tensor:
    """The tensor, with 1 in the place of what samples that are left out have for themselves."""
    if tensor.dim() == event_dims and left_out.dim() > 0:
        return tensor  # what all samples share
    return tensor.masked_fill(left_out.reshape(*left_out.shape, *[1] * event_dims), 1)


def shares(joint: Tensor) -> Tensor:
    """softmax, where a row of -inf alone has shares 0, and what is +inf has all."""
    impossible = (joint == -math.inf).all(-1, keepdim=True)
    joint = joint.masked_fill(impossible, 0).masked_fill(joint == math.inf, torch.finfo(joint.dtype).max)
    return joint.softmax(-1).masked_fill(impossible, 0)


def log_components(
    x: Tensor,
    logits: Tensor,
    mu: Tensor,
    scale: Tensor | None,
    scale_tril: Tensor | None,
    scale_param: str,
    min_std: float,
) -> tuple[Tensor, Tensor]:
    """log pi_k and log N_k, ``[*, K]``; the latter -inf for samples without components."""
    absent = (logits == -math.inf).unsqueeze(-1)
    # What absent components hold, NaN perhaps, must not reach the gradients.
    distance = widen(x).unsqueeze(-2) - widen(mu).masked_fill(absent, 0)
    if scale is None:
        assert scale_tril is not None
        tril = widen(scale_tril).masked_fill(absent.unsqueeze(-1), 1).tril()
        z = torch.linalg.solve_triangular(tril, distance.unsqueeze(-1), upper=False).squeeze(-1)
        log_std = _log(tril.diagonal(dim1=-2, dim2=-1))
    else:
        log_std = _log_std(widen(scale).masked_fill(absent, 1), scale_param, min_std)
        limits = torch.finfo(log_std.dtype)
        least = math.log(limits.tiny)
        z = distance * torch.exp(-log_std.masked_fill(log_std < least, least))
        # Finite, though the square is not: 0 times infinity is no gradient.
        largest = 2 * limits.max**0.5
        z = z.masked_fill(z > largest, largest).masked_fill(z < -largest, -largest)
    squares = z.square().sum(-1)
    log_det = log_std.expand_as(z).sum(-1)  # one log_std may stand for all features
    log_normal = -0.5 * (squares + z.shape[-1] * math.log(2 * math.pi)) - log_det
    apart = (squares == math.inf) & (log_det == -math.inf)
    return log_weights(logits), log_normal.masked_fill(apart | absent.all(-2), -math.inf)


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
    # Twice, because 0 times the infinite slope of a logarithm is no gradient.
    return activation(scale.masked_fill(floored, 1)).masked_fill(floored, math.log(min_std))


def _log(raw: Tensor) -> Tensor:
    """The logarithm; that of 0 has gradient 0, where 0 / 0 would be none."""
    return raw.masked_fill(raw == 0, 1).log().masked_fill(raw == 0, -math.inf)


def _log_softplus(raw: Tensor) -> Tensor:
    tiny = raw < -50  # softplus(raw) = exp(raw), which may underflow
    return torch.where(tiny, raw, F.softplus(raw.masked_fill(tiny, 0), threshold=50).log())
