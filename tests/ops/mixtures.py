"""Random mixtures for the tests of the mixture operators."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vtadl_ext import _binary, gmm_log_prob, gmm_nll, gmm_responsibilities, reference

from .comparison import GRAD_TOLERANCE, VALUE_TOLERANCE, assert_close, upstream_for, value_and_grads

NAMES = ("x", "logits", "mu", "scale")
SCALE_PARAMS = _binary.SCALE_PARAMS

# The value of `scale` for a standard deviation, which may be 0.
RAW_SCALE = {
    "log_std": torch.log,
    "std": lambda std: std,
    "log_var": lambda std: 2 * std.log(),
    "var": torch.square,
    "softplus": lambda std: std.expm1().log(),
    "precision": lambda std: std.square().reciprocal(),
}


def raw_scale(scale_param: str, std: float) -> float:
    return RAW_SCALE[scale_param](torch.tensor(std, dtype=torch.float64)).item()


def random_mixture(
    x: Sequence[int],
    logits: Sequence[int],
    mu: Sequence[int],
    scale: Sequence[int] = (),
    *,
    scale_tril: Sequence[int] | None = None,
    scale_param: str = "log_std",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Arguments of these shapes, with standard deviations around 1."""
    generator = torch.Generator().manual_seed(seed)
    x, logits, mu, log_std = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in (x, logits, mu, scale if scale_tril is None else scale_tril)
    )
    if scale_tril is None:
        scale_argument = {"scale": RAW_SCALE[scale_param]((0.3 * log_std).exp())}
    else:
        diagonal = (0.3 * log_std.diagonal(dim1=-2, dim2=-1)).exp()
        scale_argument = {"scale_tril": (0.3 * log_std).diagonal_scatter(diagonal, dim1=-2, dim2=-1)}
    tensors = {"x": x, "logits": logits, "mu": mu, **scale_argument}
    return {name: tensor.to(device, dtype) for name, tensor in tensors.items()}


def per_sample(samples: int, components: int, features: int, **options: object) -> dict[str, Tensor]:
    """A mixture for each sample."""
    parameters = (samples, components, features)
    return random_mixture((samples, features), (samples, components), parameters, parameters, **options)


def shared(samples: int, components: int, features: int, **options: object) -> dict[str, Tensor]:
    """One mixture for all samples."""
    parameters = (components, features)
    return random_mixture((samples, features), (components,), parameters, parameters, **options)


def per_position(samples: int, components: int, features: int, **options: object) -> dict[str, Tensor]:
    """A mixture for each of 16 positions, and so many samples there."""
    parameters = (16, components, features)
    return random_mixture(
        *((samples, 16, features), (samples, 16, components), parameters, parameters), **options
    )


def per_sample_tril(samples: int, components: int, features: int, **options: object) -> dict[str, Tensor]:
    """A mixture with full covariances for each sample."""
    leading = (samples, components)
    return random_mixture(
        *((samples, features), leading, (*leading, features)),
        scale_tril=(*leading, features, features),
        **options,
    )


def shared_tril(samples: int, components: int, features: int, **options: object) -> dict[str, Tensor]:
    """One mixture with full covariances for all samples."""
    parameters = (components, features)
    return random_mixture(
        *((samples, features), (components,), parameters), scale_tril=(*parameters, features), **options
    )


def by_position(function: Callable[..., Tensor], names: Sequence[str]) -> Callable[..., Tensor]:
    """The function, with these arguments in this order."""
    return lambda *tensors, **options: function(**dict(zip(names, tensors, strict=True)), **options)


def evaluate(
    inputs: dict[str, Tensor], function: Callable[..., Tensor] = gmm_nll, **options: object
) -> tuple[Tensor, dict[str, Tensor]]:
    """The value (of each sample, unless `options` reduce it), and a gradient for each input by its name."""
    if function in (gmm_nll, reference.gmm_nll):
        options = {"reduction": "none"} | options
    positional = by_position(function, list(inputs))
    value, grads = value_and_grads(lambda *tensors: positional(*tensors, **options), list(inputs.values()))
    return value, dict(zip(inputs, grads, strict=True))


def check_gmm(
    tensors: dict[str, Tensor],
    *,
    needs: Sequence[bool] | None = None,
    for_rounding: bool = False,
    **options: object,
) -> None:
    """Value and gradients of `gmm_nll` against the float64 reference of the same numbers.

    `for_rounding` allows for the rounding of log N_k where responsibilities depend on it.
    """
    rounding = _rounding(tensors, **options) if for_rounding else 0.0
    _check(tensors, gmm_nll, reference.gmm_nll, needs, rounding, **options)


def check_log_prob(tensors: dict[str, Tensor], **options: object) -> None:
    """The same for `gmm_log_prob`."""
    _check(tensors, gmm_log_prob, reference.gmm_log_prob, **options)


def check_responsibilities(
    tensors: dict[str, Tensor], *, needs: Sequence[bool] | None = None, **options: object
) -> None:
    """The same for `gmm_responsibilities`, which depend on the rounding of log N_k."""
    rounding = _rounding(tensors, **options)
    _check(tensors, gmm_responsibilities, reference.gmm_responsibilities, needs, rounding, **options)


def _rounding(tensors: dict[str, Tensor], **options: object) -> float:
    options = {name: value for name, value in options.items() if name in ("scale_param", "min_std")}
    log_prob = reference.gmm_log_prob(**tensors, **options).detach()
    size = max(log_prob[log_prob.isfinite()].abs().tolist(), default=0.0)
    return 2 * size * torch.finfo(log_prob.dtype).eps


def _check(
    tensors: dict[str, Tensor],
    function: Callable[..., Tensor],
    expected_function: Callable[..., Tensor],
    needs: Sequence[bool] | None = None,
    rounding: float = 0.0,
    **options: object,
) -> None:
    names, dtype = list(tensors), tensors["x"].dtype
    value, grads = value_and_grads(
        lambda *inputs: by_position(function, names)(*inputs, **options), list(tensors.values()), needs
    )
    expected, expected_grads = value_and_grads(
        lambda *inputs: by_position(expected_function, names)(*inputs, **options),
        [tensor.double() for tensor in tensors.values()],
        needs,
    )
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_close("value", value, expected, VALUE_TOLERANCE[dtype] + rounding, at_least=1.0)
    samples = torch.broadcast_shapes(*_leading(tensors).values())
    # Some gradients are 0, with one component for example. The upstream gradient bounds their size.
    upstream = upstream_for(expected).norm().item()
    if function is gmm_nll:
        count = samples.numel()
        upstream = {"none": upstream, "sum": count**0.5, "mean": max(count, 1) ** -0.5}[
            str(options.get("reduction", "mean"))
        ]
    for name, grad, expected_grad in zip(names, grads, expected_grads, strict=True):
        if grad is None:
            continue
        assert grad.dtype == dtype
        repeats = samples.numel() / max(1, _leading(tensors)[name].numel())  # samples that share a row
        tolerance = GRAD_TOLERANCE[dtype] + rounding
        if dtype == torch.bfloat16 and expected.dim() == 0:
            tolerance *= 2  # rounded once more after the upstream gradient
        at_least = (1.0 if rounding else 0.1) * upstream * repeats**0.5
        assert_close(f"gradient of {name}", grad, expected_grad, tolerance, at_least)


def _leading(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    event_dims = {"x": 1, "logits": 1, "mu": 2, "scale": 2, "scale_tril": 3}
    return {name: tensor.shape[: tensor.dim() - event_dims[name]] for name, tensor in tensors.items()}
