"""Random mixtures for the tests of `gmm_nll`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vtadl_ext import gmm_nll, reference

from .comparison import check_against_reference, upstream_for

NAMES = ("x", "logits", "mu", "scale")
SCALE_PARAMS = ("log_std", "std", "log_var", "var", "softplus")

# What `scale` holds for a standard deviation.
_RAW_SCALE = {
    "log_std": torch.log,
    "std": lambda std: std,
    "log_var": lambda std: 2 * std.log(),
    "var": torch.square,
    "softplus": lambda std: std.expm1().log(),
}


def random_mixture(
    x: Sequence[int],
    logits: Sequence[int],
    mu: Sequence[int],
    scale: Sequence[int],
    *,
    scale_param: str = "log_std",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Arguments of these shapes, with standard deviations around 1."""
    generator = torch.Generator().manual_seed(seed)
    x, logits, mu, log_std = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (x, logits, mu, scale)
    )
    raw_scale = _RAW_SCALE[scale_param]((0.3 * log_std).exp())
    tensors = (x, logits, mu, raw_scale)
    return {name: tensor.to(device, dtype) for name, tensor in zip(NAMES, tensors, strict=True)}


def per_sample(samples: int, components: int, features: int, **options: object) -> dict[str, Tensor]:
    """A mixture for each sample."""
    parameters = (samples, components, features)
    return random_mixture((samples, features), (samples, components), parameters, parameters, **options)


def shared(samples: int, components: int, features: int, **options: object) -> dict[str, Tensor]:
    """One mixture for all samples."""
    parameters = (components, features)
    return random_mixture((samples, features), (components,), parameters, parameters, **options)


def check_gmm(tensors: dict[str, Tensor], **options: object) -> None:
    # With one component the logits' gradient is 0: only the upstream gradient says how large it could be.
    value = reference.gmm_nll(*tensors.values(), reduction="none").detach()
    samples = value.numel()
    grad_at_least = {
        "none": upstream_for(value).norm().item(),
        "sum": samples**0.5,
        "mean": samples**-0.5 if samples else 0.0,
    }[str(options.get("reduction", "mean"))]
    check_against_reference(gmm_nll, reference.gmm_nll, tensors, grad_at_least=0.1 * grad_at_least, **options)
