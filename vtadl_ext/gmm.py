"""Gaussian mixtures, fused: likelihood, responsibilities and samples."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vtadl_ext import _binary, _fallback, _gmm_ops
from vtadl_ext._autograd import computes_grads_in_forward, kernels_serve
from vtadl_ext._checks import (
    check_generator,
    check_number,
    check_option,
    check_sample_weight,
    checked_sizes,
    checked_tensors,
)
from vtadl_ext._masked_softmax import mixture_log_probs, responsibilities
from vtadl_ext._options import GMMKernelOptions, ScaleOptions
from vtadl_ext._reductions import reduce, reduce_weighted
from vtadl_ext._sampling import sample_mixture
from vtadl_ext._shapes import broadcast_shapes

_REDUCTIONS = ("mean", "sum", "none")
_MAX_TRIL_FEATURES = 8

# The kernels take 8 groups of leading dimensions, and each vmap around them adds one.
_MAX_BROADCAST_GROUPS = 6


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
    r"""Negative log-likelihood of samples under Gaussian mixtures, in nats.

    .. math:: -\log \sum_k \pi_k\, \mathcal N(x;\ \mu_k, \Sigma_k),
              \qquad \pi = \mathrm{softmax}(\text{logits})

    All leading dimensions ``*`` broadcast without copies; parameters without any are one mixture that all
    samples share. The result can be negative: a density may exceed 1. It is float32 for half-precision input.
    It is the loss of mixture density networks (C. M. Bishop, 1994).

    Args:
        x: samples, ``[*, D]``; like all arguments float64, float32, float16 or bfloat16.
        logits: unnormalised log-probabilities of the components, ``[*, K]``. ``-inf`` masks a component,
            whatever its other parameters hold. Where all are masked the result is ``+inf`` with gradients 0.
        mu: means, ``[*, K, D]``. Here and in `scale`, a size of 1 instead of K or D means that all components
            or features share a value.
        scale: ``[*, K, D]`` for diagonal covariances, ``[*, K, 1]`` for spherical ones; read as `scale_param`
            says.
        scale_tril: instead of `scale`, the lower Cholesky factors of full covariances, ``[*, K, D, D]``
            or ``[*, 1, D, D]``, for D up to 8. Their diagonals must be positive: with a negative number there
            the result is NaN. The elements above the diagonal are not read and have gradient 0.
        scale_param: what `scale` holds: ``"log_std"``, ``"std"``, ``"log_var"``, ``"var"``, ``"softplus"``
            (the standard deviation is ``softplus(scale)``) or ``"precision"`` (the inverse variance).
        min_std: floor of the standard deviations of `scale`. Where it applies, the gradient of `scale` is 0.
        mixture: ``"logsumexp"``, the likelihood; or ``"weighted"``,
            :math:`\sum_k \pi_k (-\log \mathcal N_k)`, an upper bound of it.
        sample_weight: weight of each sample, 0 or more, or a mask of those that count: floating-point or
            bool, broadcasting to ``[*]``. Samples of weight 0 do not change the result or any gradient,
            whatever they hold.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``; with `sample_weight` the weighted mean, the weighted
            sum, or the weighted values. The mean where all weights are 0 is NaN, with gradients 0.

    Returns:
        A scalar, or ``[*]`` under ``reduction="none"``.

    Raises:
        TypeError: an argument is no tensor, or has another dtype than `x`.
        ValueError: a shape, device or option does not fit; the message names it.
    """
    options = ScaleOptions(scale_param, min_std)
    tensors = _checked(options, scale, scale_tril, x=x, logits=logits, mu=mu)
    check_option("mixture", mixture, _binary.MIXTURES)
    check_option("reduction", reduction, _REDUCTIONS)
    if sample_weight is not None:
        check_sample_weight(sample_weight, _batch_shape(tensors, options), x.device)
    if not kernels_serve(x, logits, mu, scale, scale_tril):
        return _fallback.gmm_nll(
            tensors, options, mixture=mixture, sample_weight=sample_weight, reduction=reduction
        )
    inputs, kernel_options = _for_kernels(tensors, options, mixture)
    if sample_weight is None and reduction != "none" and computes_grads_in_forward(inputs):
        batch_shape = _gmm_ops.batch_shape_of(inputs, kernel_options.scale_param)
        divisor = math.prod(batch_shape) if reduction == "mean" else 1
        return _gmm_ops.GMMLoss.apply(divisor, *inputs, *kernel_options)  # type: ignore[no-any-return]
    nll = -_gmm_ops.gmm_log_prob(*inputs, *kernel_options)
    return reduce(nll, reduction) if sample_weight is None else reduce_weighted(nll, sample_weight, reduction)


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
    """Log-density of samples under Gaussian mixtures, in nats, ``[*]``.

    The arguments and errors are those of :func:`gmm_nll`. The result is ``-inf`` where all components are
    masked.
    """
    options = ScaleOptions(scale_param, min_std)
    tensors = _checked(options, scale, scale_tril, x=x, logits=logits, mu=mu)
    if not kernels_serve(x, logits, mu, scale, scale_tril):
        return _fallback.gmm_log_prob(tensors, options)
    inputs, kernel_options = _for_kernels(tensors, options, "logsumexp")
    return _gmm_ops.gmm_log_prob(*inputs, *kernel_options)


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
    """Posterior probability of each component given each sample, ``[*, K]``, differentiable.

    The arguments and errors are those of :func:`gmm_nll`. Responsibilities sum to 1; those of masked
    components are 0, and all are 0, with gradients 0, for a sample that is impossible under every component.
    """
    options = ScaleOptions(scale_param, min_std)
    tensors = _checked(options, scale, scale_tril, x=x, logits=logits, mu=mu)
    if not kernels_serve(x, logits, mu, scale, scale_tril):
        return _fallback.gmm_responsibilities(tensors, options)
    inputs, (param, floor, _) = _for_kernels(tensors, options, "none")
    logits = inputs[1]
    log_normal: Tensor = _gmm_ops.GMMComponentLogProb.apply(*inputs, param, floor)
    # The parameters of masked components may be NaN.
    log_normal = log_normal.masked_fill(logits == -math.inf, -math.inf)
    return responsibilities(mixture_log_probs(logits) + log_normal)


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
    """Samples of Gaussian mixtures, ``[*sample_shape, *, D]``, without gradients.

    A component is drawn first, and then a sample of that one alone. D is the larger of the last dimensions of
    `mu` and of `scale` or `scale_tril`, which may have any number of features here. Mixtures whose components
    are all masked give NaN. The samples have the dtype of the parameters.

    Args:
        logits, mu, scale, scale_tril, scale_param, min_std: the mixtures, as in :func:`gmm_nll`.
        temperature: how far samples stray from the likeliest, as in D. Ha and D. Eck, "A neural
            representation of sketch drawings" (ICLR 2018): the logits are divided by it, and the standard
            deviations multiplied by its square root. 1 leaves the mixtures as they are; 0 gives the mean of
            the component with the largest weight.
        sample_shape: how many samples of each mixture, as leading dimensions: integers in any sequence.
        generator: source of the random numbers, on the device of the parameters; by default PyTorch's own.

    Raises:
        TypeError, ValueError: as :func:`gmm_nll`.
    """
    options = ScaleOptions(scale_param, min_std)
    tensors = _checked(options, scale, scale_tril, logits=logits, mu=mu)
    check_number("temperature", temperature, zero_allowed=True)
    sample_shape = checked_sizes("sample_shape", sample_shape)
    check_generator(generator, logits.device)
    return sample_mixture(
        tensors, options, temperature=temperature, sample_shape=sample_shape, generator=generator
    )


class GMMNLLLoss(nn.Module):
    """:func:`gmm_nll` as a module, with its options fixed."""

    def __init__(
        self,
        *,
        scale_param: str = "log_std",
        min_std: float = 0.0,
        mixture: str = "logsumexp",
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        ScaleOptions(scale_param, min_std).check()
        check_option("mixture", mixture, _binary.MIXTURES)
        check_option("reduction", reduction, _REDUCTIONS)
        self.scale_param = scale_param
        self.min_std = min_std
        self.mixture = mixture
        self.reduction = reduction

    def forward(
        self,
        x: Tensor,
        logits: Tensor,
        mu: Tensor,
        scale: Tensor | None = None,
        *,
        scale_tril: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        return gmm_nll(
            *(x, logits, mu, scale), scale_tril=scale_tril, sample_weight=sample_weight, **self._options()
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("scale_param", "min_std", "mixture", "reduction")}


def _for_kernels(
    tensors: dict[str, Tensor], options: ScaleOptions, mixture: str
) -> tuple[tuple[Tensor, ...], GMMKernelOptions]:
    """x, logits, mu and scale, and the options as the operators number them."""
    inputs, param = _inputs(tensors), _kernel_param(tensors, options)
    kernel_options = GMMKernelOptions(param, float(options.min_std), _binary.MIXTURE_NAMES.index(mixture))
    batch_shape = _gmm_ops.batch_shape_of(inputs, param)
    if len(batch_shape) > _MAX_BROADCAST_GROUPS:
        inputs = tuple(
            _with_few_broadcasts(tensor, dims, batch_shape)
            for tensor, dims in zip(inputs, _gmm_ops.event_dims_of(param), strict=True)
        )
    return inputs, kernel_options


def _inputs(tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """x, logits, mu and scale, which may be scale_tril."""
    scale = tensors["scale_tril"] if "scale_tril" in tensors else tensors["scale"]
    return tensors["x"], tensors["logits"], tensors["mu"], scale


def _kernel_param(tensors: dict[str, Tensor], options: ScaleOptions) -> int:
    if "scale_tril" in tensors:
        return _binary.TRIL
    return _binary.SCALE_PARAM_NAMES.index(options.scale_param)


def _batch_shape(tensors: dict[str, Tensor], options: ScaleOptions) -> torch.Size:
    """The leading dimensions of all samples."""
    return _gmm_ops.batch_shape_of(_inputs(tensors), _kernel_param(tensors, options))


def _with_few_broadcasts(tensor: Tensor, event_dims: int, batch_shape: torch.Size) -> Tensor:
    """The tensor, expanded where its leading dimensions alternate too often between broadcast and not."""
    leading, event = tensor.shape[:-event_dims], tensor.shape[-event_dims:]
    aligned = (1,) * (len(batch_shape) - len(leading)) + tuple(leading)
    broadcast = [size == 1 for size, full in zip(aligned, batch_shape, strict=True) if full != 1]
    groups = 1 + sum(before != after for before, after in pairwise(broadcast))
    return tensor if groups <= _MAX_BROADCAST_GROUPS else tensor.expand(*batch_shape, *event)


def _checked(
    options: ScaleOptions, scale: Tensor | None, scale_tril: Tensor | None, **tensors: Tensor
) -> dict[str, Tensor]:
    """The tensors and the given one of scale and scale_tril by their names, once all fit together."""
    if (scale is None) == (scale_tril is None):
        got = "neither" if scale is None else "both"
        raise ValueError(f"exactly one of scale and scale_tril must be given, got {got}")
    options.check()
    if scale is not None:
        tensors["scale"] = scale
    elif scale_tril is not None:
        tensors["scale_tril"] = scale_tril
        for name, value, default in zip(options._fields, options, ("log_std", 0.0), strict=True):
            if value != default:
                raise ValueError(
                    f"{name} is for scale: with scale_tril it must be {default!r}, got {value!r}"
                )
    tensors = dict(zip(tensors, checked_tensors(**tensors), strict=True))
    _check_shapes(tensors)
    return tensors


def _check_shapes(tensors: dict[str, Tensor]) -> None:
    logits = tensors["logits"]
    if logits.dim() < 1 or logits.shape[-1] < 1:
        raise ValueError(f"logits must have shape [*, K] with K >= 1, got {list(logits.shape)}")
    components = logits.shape[-1]
    features, source = _features(tensors)
    any_component, any_feature = (components, 1), (features, 1)
    event: dict[str, list[tuple[int, ...]]] = {
        "x": [(features,)],
        "logits": [(components,)],
        "mu": [any_component, any_feature],
        "scale": [any_component, any_feature],
        "scale_tril": [any_component, (features,), (features,)],
    }
    leading = next(iter(tensors.values())).shape[:-1]  # of x, or of logits
    for name, tensor in tensors.items():
        allowed, dims = event[name], len(event[name])
        sizes = tensor.shape[-dims:]
        if len(sizes) < dims or any(
            size not in choices for size, choices in zip(sizes, allowed, strict=True)
        ):
            wanted = ", ".join(" or ".join(map(str, dict.fromkeys(choices))) for choices in allowed)
            raise ValueError(
                f"{name} must have shape [*, {wanted}], with K = {components} from logits and D = {features} "
                f"from {source}, got {list(tensor.shape)}"
            )
        try:
            leading = broadcast_shapes(leading, tensor.shape[:-dims])
        except RuntimeError:
            raise ValueError(
                f"{name} has leading dimensions {list(tensor.shape[:-dims])}, which do not broadcast with "
                f"{list(leading)}"
            ) from None


def _features(tensors: dict[str, Tensor]) -> tuple[int, str]:
    """D, and the name of the tensor that it comes from."""
    if "x" not in tensors:
        names = [name for name in tensors if name != "logits"]
        sizes = [tensors[name].shape[-1:].numel() for name in names]
        return max(1, *sizes), f"the larger of {' and '.join(names)}"
    x = tensors["x"]
    if x.dim() < 1 or x.shape[-1] < 1:
        raise ValueError(f"x must have shape [*, D] with D >= 1, got {list(x.shape)}")
    features = x.shape[-1]
    if "scale_tril" in tensors and features > _MAX_TRIL_FEATURES:
        raise ValueError(
            f"scale_tril takes at most {_MAX_TRIL_FEATURES} features, got D = {features} from x; for more, "
            "use the function of the same name in vtadl_ext.reference, or scale, which has no correlations"
        )
    return features, "x"
