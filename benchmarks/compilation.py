"""The settings of `torch.compile` for all peers."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

_backend = "inductor"


def trace_only() -> None:
    """Makes compilation in this process trace operations without generating code."""
    global _backend
    _backend = "aot_eager"


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compiles the function anew, for fixed shapes."""
    return torch.compile(function, dynamic=False, backend=_backend)
