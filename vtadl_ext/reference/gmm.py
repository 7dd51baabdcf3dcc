"""The mixture operators in plain PyTorch."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl_ext.reference._sums import reduce, widen


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
    reduction: str = "mean",
) -> Tensor:
    """Reference of :func:`vtadl_ext.gmm_nll`."""
    log_pi, log_normal = _log_components(x, logits, mu, scale, scale_tril, scale_param, min_std)
    # Impossible samples leave the computation before infinities meet: there is no way down from there.
    if mixture == "weighted":
        impossible = ((log_pi.exp() > 0) & (log_normal == -math.inf)).any(-1, keepdim=True)
        log_prob = (log_pi.exp() * log_normal.masked_fill(impossible, 0)).sum(-1)
    else:
        joint = log_pi + log_normal
        impossible = (joint == -math.inf).all(-1, keepdim=True)
        log_prob = torch.logsumexp(joint.masked_fill(impossible, 0), -1)
    return reduce(-log_prob.masked_fill(impossible.squeeze(-1), -math.inf), reduction)


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
    log_pi, log_normal = _log_components(x, logits, mu, scale, scale_tril, scale_param, min_std)
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
    sample_shape: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Reference of :func:`vtadl_ext.gmm_sample`, which runs this very code."""
    dtype = mu.dtype
    spread, spread_dims = (scale_tril, 2) if scale is None else (scale, 1)
    assert spread is not None
    logits, mu, spread = map(widen, (logits, mu, spread))
    batch = torch.broadcast_shapes(logits.shape[:-1], mu.shape[:-2], spread.shape[: -spread_dims - 1])
    shape, features = (*sample_shape, *batch), max(mu.shape[-1], spread.shape[-1])
    if math.prod(shape) == 0:
        return mu.new_empty((*shape, features), dtype=dtype)

    pi = logits.softmax(-1)
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
    return (drawn(mu, 1) + noise).masked_fill(undefined, math.nan).to(dtype)


def log_weights(logits: Tensor) -> Tensor:
    """log softmax, where a row of -inf alone stands for equal weights: its log N_k have to say -inf."""
    logits = widen(logits)
    return logits.masked_fill((logits == -math.inf).all(-1, keepdim=True), 0).log_softmax(-1)


def shares(joint: Tensor) -> Tensor:
    """softmax, where a row of -inf alone has shares 0."""
    impossible = (joint == -math.inf).all(-1, keepdim=True)
    return joint.masked_fill(impossible, 0).softmax(-1).masked_fill(impossible, 0)


def _log_components(
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
        log_std = tril.diagonal(dim1=-2, dim2=-1).log()
    else:
        log_std = _log_std(widen(scale).masked_fill(absent, 1), scale_param, min_std)
        z = distance * torch.exp(-log_std)
    # One log_std may stand for all features.
    log_normal = -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
    return log_weights(logits), log_normal.masked_fill(absent.all(-2), -math.inf)


def _log_std(scale: Tensor, scale_param: str, min_std: float) -> Tensor:
    activation: Callable[[Tensor], Tensor] = {
        "log_std": lambda raw: raw,
        "std": lambda raw: raw.log(),
        "log_var": lambda raw: 0.5 * raw,
        "var": lambda raw: 0.5 * raw.log(),
        "softplus": lambda raw: F.softplus(raw).log(),
    }[scale_param]
    if min_std == 0:
        return activation(scale)
    floored = activation(scale) < math.log(min_std)
    # Twice, because 0 times the infinite slope of a logarithm is no gradient.
    return activation(scale.masked_fill(floored, 1)).masked_fill(floored, math.log(min_std))
