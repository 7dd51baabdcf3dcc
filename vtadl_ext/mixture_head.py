"""The head of a mixture density network: from features to Gaussian mixtures."""

from collections.abc import Iterable
from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl_ext import _binary, _replicas
from vtadl_ext._checks import check_count, check_flag, check_option
from vtadl_ext._head_layout import HeadRows, as_mixture
from vtadl_ext._options import ScaleOptions
from vtadl_ext._scale_params import raw_scale, zero_is_a_scale
from vtadl_ext.gmm import gmm_sample
from vtadl_ext.linear_gmm import linear_gmm_nll

_INITIAL_STD = 1.0


class MixtureHead(nn.Module):
    """A linear layer that predicts a Gaussian mixture for each row of its input (Bishop, 1994).

    Called with features, the module returns the mixtures themselves, which :func:`gmm_nll` and the functions
    beside it take. Called with features and samples, it returns their negative log-likelihood by
    :func:`linear_gmm_nll`, which needs little memory. :meth:`nll` and :meth:`log_prob` are such calls, so
    they work with hooks and with FSDP's ``fully_shard``. Under DistributedDataParallel call ``ddp(h, x)`` or
    ``ddp.module.nll(x, h)``, or call :meth:`nll` in the forward of the wrapped module.

    Whatever its input, a new head gives all components the same probability and a standard deviation of 1, or
    of 2 * `min_std` if that is more. The weight and bias of the means are those of a new ``torch.nn.Linear``.
    Targets should therefore be standardised.

    Args:
        in_features: H, the features of the input.
        out_features: D, the features of the samples.
        num_components: K.
        scale_param, min_std, mixture: as in :func:`gmm_nll`.
        shared_scale: whether the components of a mixture share one scale.
        spherical: whether the features of a component share one scale.
        bias: whether the layer has a bias. Without one, the logits and the scale of a new head are 0, so
            `scale_param` must give 0 a positive, finite standard deviation.
        memory_budget: of :meth:`nll` and :meth:`log_prob`, as in :func:`linear_gmm_nll`.
        device, dtype: of the parameters.

    Attributes:
        weight: ``[K + K * D + S, H]``: logits, then mu, then scale, as in :func:`linear_gmm_nll`.
        bias: ``[K + K * D + S]``, or None.

    Raises:
        TypeError, ValueError: an option does not fit; the message names it.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_components: int,
        *,
        scale_param: str = "log_std",
        min_std: float = 0.0,
        mixture: str = "logsumexp",
        shared_scale: bool = False,
        spherical: bool = False,
        bias: bool = True,
        memory_budget: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"in_features": in_features, "out_features": out_features, "num_components": num_components}
        for name, size in sizes.items():
            check_count(name, size)
        for name, flag in {"shared_scale": shared_scale, "spherical": spherical, "bias": bias}.items():
            check_flag(name, flag)
        ScaleOptions(scale_param, min_std).check()
        check_option("mixture", mixture, _binary.MIXTURES)
        if memory_budget is not None:
            check_count("memory_budget", memory_budget)
        if not bias and not zero_is_a_scale(scale_param):
            raise ValueError(f"bias must be True with scale_param {scale_param!r}, for 0 is no {scale_param}")
        self.in_features = int(in_features)
        self.out_features = int(out_features)
        self.num_components = int(num_components)
        self.scale_param = scale_param
        self.min_std = min_std
        self.mixture = mixture
        self.shared_scale = shared_scale
        self.spherical = spherical
        self.memory_budget = memory_budget
        rows = sum(self._rows())
        self.weight = nn.Parameter(torch.empty(rows, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(rows, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The parameters of a new head."""
        logits, mu, scale = self.weight.split(self._rows())
        nn.init.zeros_(logits)
        nn.init.zeros_(scale)
        bound = self.in_features**-0.5
        nn.init.uniform_(mu, -bound, bound)
        if self.bias is not None:
            logits, mu, scale = self.bias.split(self._rows())
            nn.init.zeros_(logits)
            nn.init.uniform_(mu, -bound, bound)
            nn.init.constant_(scale, raw_scale(max(_INITIAL_STD, 2 * self.min_std), self.scale_param))

    @overload
    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...
    @overload
    def forward(
        self,
        h: Tensor,
        x: Tensor,
        *,
        mixture: str | None = ...,
        sample_weight: Tensor | None = ...,
        reduction: str = ...,
    ) -> Tensor: ...
    def forward(
        self,
        h: Tensor,
        x: Tensor | None = None,
        *,
        mixture: str | None = None,
        sample_weight: Tensor | None = None,
        reduction: str = "mean",
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Features ``[*, H]`` to logits ``[*, K]``, mu ``[*, K, D]`` and scale; with samples to their NLL.

        The scale is ``[*, K, D]``, with 1 instead of K under `shared_scale` and instead of D if `spherical`.
        The negative log-likelihood of samples ``[*, D]`` is that of :func:`linear_gmm_nll`. `mixture` is the
        head's own by default.
        """
        _check_width("h", h, self.in_features, "in_features")
        if x is None:
            return self._mixtures(h)
        _check_width("x", x, self.out_features, "out_features")
        return linear_gmm_nll(
            *(x, h, self.weight, self.bias),
            num_components=self.num_components,
            scale_param=self.scale_param,
            min_std=self.min_std,
            mixture=self.mixture if mixture is None else mixture,
            shared_scale=self.shared_scale,
            memory_budget=self.memory_budget,
            sample_weight=sample_weight,
            reduction=reduction,
        )

    def _mixtures(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = self._rows()
        biases = (None,) * 3 if self.bias is None else self.bias.split(rows)
        # Separate products have contiguous outputs, which the likelihood takes without a copy.
        outputs = [F.linear(h, *part) for part in zip(self.weight.split(rows), biases, strict=True)]
        return as_mixture(outputs, self.shared_scale)

    def nll(
        self, x: Tensor, h: Tensor, *, sample_weight: Tensor | None = None, reduction: str = "mean"
    ) -> Tensor:
        """Negative log-likelihood of samples ``[*, D]`` under the mixtures of features ``[*, H]``, in nats.

        The value is that of :func:`linear_gmm_nll`, in the form that `mixture` says.

        Raises:
            RuntimeError: the head is part of a module under DistributedDataParallel and is called outside of
                that module's forward, so that its gradients would not be synchronised.
        """
        return self._likelihood(h, x, sample_weight=sample_weight, reduction=reduction)

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """Log-density of samples ``[*, D]`` under the mixtures of features ``[*, H]``, ``[*]``, in nats."""
        return -self._likelihood(h, x, mixture="logsumexp", reduction="none")

    def sample(
        self,
        h: Tensor,
        sample_shape: Iterable[int] = (),
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Samples ``[*sample_shape, *, D]`` of the mixtures of features ``[*, H]``, without gradients.

        The options are those of :func:`gmm_sample`.
        """
        with torch.no_grad():
            return gmm_sample(
                *self(h),
                scale_param=self.scale_param,
                min_std=self.min_std,
                temperature=temperature,
                sample_shape=sample_shape,
                generator=generator,
            )

    def extra_repr(self) -> str:
        sizes = f"{self.in_features}, {self.out_features}, {self.num_components}"
        names = ("scale_param", "min_std", "mixture", "shared_scale", "spherical")
        options: dict[str, Any] = {name: getattr(self, name) for name in names}
        options["bias"] = self.bias is not None
        if self.memory_budget is not None:
            options["memory_budget"] = self.memory_budget
        return ", ".join([sizes, *(f"{name}={value!r}" for name, value in options.items())])

    def _rows(self) -> HeadRows:
        components = 1 if self.shared_scale else self.num_components
        features = 1 if self.spherical else self.out_features
        return HeadRows(self.num_components, self.num_components * self.out_features, components * features)

    def _likelihood(self, h: Tensor, x: Tensor, **options: Any) -> Tensor:
        return _replicas.through_replicas(self)(h, x, **options)  # type: ignore[no-any-return]


_replicas.watch(MixtureHead)


def _check_width(name: str, tensor: Tensor, width: int, source: str) -> None:
    if isinstance(tensor, Tensor) and tensor.shape[-1:] != (width,):
        raise ValueError(
            f"{name} must have shape [*, {width}], with {source} = {width}, got {list(tensor.shape)}"
        )
