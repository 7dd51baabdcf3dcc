"""Random linear heads for the tests of the operators that include one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vtadl_ext import linear_gmm_nll

# Rows of the weight for the scale, and whether the components share it, by the kind of scale.
SCALES: dict[str, tuple[Callable[[int, int], int], bool]] = {
    "diagonal": (lambda components, features: components * features, False),
    "spherical": (lambda components, features: components, False),
    "shared": (lambda components, features: features, True),
    "shared_spherical": (lambda components, features: 1, True),
}

# The parametrisations of which 0 is no standard deviation.
POSITIVE = ("std", "var", "precision")


def random_head(
    samples: int | Sequence[int],
    components: int,
    features: int,
    width: int = 7,
    *,
    scale: str = "diagonal",
    scale_param: str = "log_std",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    bias: bool = True,
    seed: int = 0,
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """x, h, weight and bias, and the options that say how to read them; standard deviations around 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    leading = (samples,) if isinstance(samples, int) else tuple(samples)
    scale_rows, shared = SCALES[scale][0](components, features), SCALES[scale][1]
    rows = components + components * features + scale_rows
    weight, offset = normal(rows, width) * width**-0.5, 0.3 * normal(rows)
    weight[-scale_rows:] *= 0.2
    if scale_param in POSITIVE:  # whatever h is
        offset[-scale_rows:] = 2
    tensors = {"x": normal(*leading, features), "h": normal(*leading, width), "weight": weight}
    if bias:
        tensors["bias"] = offset
    tensors = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}
    return tensors, {"num_components": components, "shared_scale": shared, "scale_param": scale_param}


def by_position(function: Callable[..., Tensor] = linear_gmm_nll, **options: object) -> Callable[..., Tensor]:
    """The function of x, h, weight and perhaps bias, with its options fixed."""
    return lambda *tensors: function(*tensors, **options)
