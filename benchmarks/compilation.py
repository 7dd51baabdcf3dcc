"""`torch.compile` as all peers use it."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

_backend = "inductor"


def trace_only() -> None:
    """From here on, in this process: operations are traced, but no code is generated."""
    global _backend
    _backend = "aot_eager"


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compiled anew, for fixed shapes: what was compiled for other tensors does not count."""
    return torch.compile(function, dynamic=False, backend=_backend)
