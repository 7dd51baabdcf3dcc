"""What is measured: cases of an operator, who computes them, and what is asked for."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from benchmarks.compilation import compiled

# Tensors to a scalar.
Function = Callable[..., Tensor]

OWN = "vtadl_ext"


@dataclass
class Mode:
    """Which gradients a call computes beside the value."""

    name: str
    differentiated: slice  # of the tensors

    def leaves(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors as a call takes them."""
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
    modes: tuple[str, ...] | None = None  # None: all of them
    devices: tuple[str, ...] = ("cpu", "cuda")
    package: str | None = None  # to be imported by `function`

    @property
    def installed(self) -> bool:
        return self.package is None or importlib.util.find_spec(self.package) is not None

    def has(self, mode: Mode) -> bool:
        return self.modes is None or mode.name in self.modes

    def callable(self) -> Function:
        return compiled(self.function) if self.compile else self.function


# What runs a case: `make bench-smoke`, `--quick` too, or only the whole benchmark.
Level = Literal["smoke", "quick", "full"]


@dataclass(frozen=True)
class Case:
    """Sizes of an operator, as tensors, with the reference for its value and gradients."""

    name: str
    size: str
    build: Callable[[], tuple[Tensor, ...]]
    reference: Function
    providers: tuple[Provider, ...]
    flops: Callable[[Mode], float]  # that the formula needs; a multiply-add is two
    modes: tuple[Mode, ...] = (FORWARD, GRADIENTS)
    dtype: torch.dtype = torch.float32
    level: Level = "full"
    sweep: dict[str, int] | None = None  # what varies from case to case, and its value
    threads: int | None = None  # None: all
    devices: tuple[str, ...] = ("cpu", "cuda")
    images: int = 0  # in a call, where images per second are of interest

    def tensors(self, device: torch.device) -> tuple[Tensor, ...]:
        """The same numbers every time, on every device."""
        torch.manual_seed(0)
        return tuple(tensor.to(device, self.dtype) for tensor in self.build())


def thread_counts() -> list[int]:
    """Powers of two up to all threads, and those."""
    most = torch.get_num_threads()
    return sorted({1 << i for i in range(most.bit_length())} | {most})
