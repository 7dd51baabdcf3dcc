"""Cases of an operator, the providers that compute them, and the modes that they are computed in."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from benchmarks.compilation import compiled

# A function from tensors to a scalar.
Function = Callable[..., Tensor]

OWN = "vtadl_ext"


@dataclass
class Mode:
    """The gradients that a call computes besides the value."""

    name: str
    differentiated: slice  # the tensors that get gradients

    def leaves(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors, detached; those to be differentiated require gradients."""
        leaves = [tensor.detach() for tensor in tensors]
        for leaf in leaves[self.differentiated]:
            leaf.requires_grad_()
        return leaves

    def __call__(self, function: Function, leaves: list[Tensor]) -> list[Tensor]:
        """The value, then its gradients."""
        wanted = leaves[self.differentiated]
        if not wanted:
            with torch.no_grad():
                return [function(*leaves)]
        value = function(*leaves)
        return [value.detach(), *torch.autograd.grad(value, wanted)]


FORWARD = Mode("forward", slice(0))
FIRST_GRADIENT = Mode("first gradient", slice(1))
GRADIENTS = Mode("gradients", slice(None))


@dataclass(frozen=True)
class Provider:
    """One way to compute an operator."""

    name: str
    function: Function
    compile: bool = False
    modes: tuple[str, ...] | None = None  # None: all modes
    devices: tuple[str, ...] = ("cpu", "cuda")
    package: str | None = None  # which `function` imports

    @property
    def installed(self) -> bool:
        return self.package is None or importlib.util.find_spec(self.package) is not None

    def has(self, mode: Mode) -> bool:
        return self.modes is None or mode.name in self.modes

    def callable(self) -> Function:
        return compiled(self.function) if self.compile else self.function


# The level that a case belongs to: `make bench-smoke`, `--quick`, or the whole benchmark alone.
Level = Literal["smoke", "quick", "full"]


@dataclass(frozen=True)
class Case:
    """Tensors of certain sizes for an operator, with the reference for its value and gradients."""

    name: str
    size: str
    build: Callable[[], tuple[Tensor, ...]]
    reference: Function
    providers: tuple[Provider, ...]
    flops: Callable[[Mode], float]  # needed by the formula; a multiply-add counts as two
    modes: tuple[Mode, ...] = (FORWARD, GRADIENTS)
    dtype: torch.dtype = torch.float32
    level: Level = "full"
    sweep: dict[str, int] | None = None  # the quantity that varies from case to case, and its value
    threads: int | None = None  # None: all threads
    devices: tuple[str, ...] = ("cpu", "cuda")
    images: int = 0  # in a call; 0 where images per second are not reported

    def tensors(self, device: torch.device) -> tuple[Tensor, ...]:
        """The tensors of the case: the same numbers every time, on every device."""
        torch.manual_seed(0)
        return tuple(tensor.to(device, self.dtype) for tensor in self.build())


def thread_counts() -> list[int]:
    """Powers of two below the number of all threads, and that number."""
    most = torch.get_num_threads()
    return sorted({1 << i for i in range(most.bit_length())} | {most})
