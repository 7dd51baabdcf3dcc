"""How the output of a linear head holds the parameters of a mixture."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class HeadRows(NamedTuple):
    """The number of rows of a head's weight for the logits, mu and scale, in this order."""

    logits: int  # K
    mu: int  # K * D: all features of one component after those of another
    scale: int  # K * D, or K for spherical scales; D or 1 where all components share one scale


def as_mixture(outputs: Sequence[Tensor], shared_scale: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Logits ``[*, K]``, mu ``[*, K, D]`` and scale ``[*, K or 1, D or 1]`` of the outputs of their rows."""
    logits, mu, scale = outputs
    components = logits.shape[-1]
    mu = mu.unflatten(-1, (components, -1))
    return logits, mu, scale.unflatten(-1, (1, -1) if shared_scale else (components, -1))
