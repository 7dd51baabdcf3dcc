"""`linear_gmm_nll` against a linear layer and what computes the likelihood of its output.

`python -m benchmarks.linear_gmm` prints the table of memory in docs/linear_gmm.md. It needs Linux.
"""

import multiprocessing
import os
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import vtadl_ext
from benchmarks.gmm import mixture_same_family
from benchmarks.measure import Case, Function, forward_backward


def head(
    x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, components: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The whole mixtures, each parameter contiguous, as `MixtureHead` makes them."""
    means = components * x.shape[-1]
    rows = (components, means, means)
    logits, mu, scale = (
        F.linear(h, *some) for some in zip(weight.split(rows), bias.split(rows), strict=True)
    )
    return logits, mu.unflatten(-1, (components, -1)), scale.unflatten(-1, (components, -1))


def linear_then(nll: Function, components: int) -> Function:
    def linear_nll(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return nll(x, *head(x, h, weight, bias, components))

    return linear_nll


def providers(components: int) -> dict[str, Function]:
    reference = linear_then(vtadl_ext.reference.gmm_nll, components)
    return {
        "vtadl_ext": partial(vtadl_ext.linear_gmm_nll, num_components=components),
        "Linear + gmm_nll": linear_then(vtadl_ext.gmm_nll, components),
        "Linear + eager": reference,
        "Linear + compiled": torch.compile(reference, dynamic=False),
        "Linear + MixtureSameFamily": linear_then(mixture_same_family, components),
    }


def cases(device: torch.device) -> list[Case]:
    def case(
        name: str,
        samples: int,
        components: int,
        features: int,
        width: int,
        dtype: torch.dtype = torch.float32,
    ) -> Case:
        rows = components * (1 + 2 * features)
        weight = 0.3 * width**-0.5 * torch.randn(rows, width)
        tensors = (torch.randn(samples, features), torch.randn(samples, width), weight, torch.zeros(rows))
        return Case(
            f"{name}: x {[samples, features]}, h {[samples, width]}, K {components}",
            tuple(tensor.to(device, dtype) for tensor in tensors),
            partial(vtadl_ext.reference.linear_gmm_nll, num_components=components),
            providers(components),
            modes=(forward_backward,),
        )

    return [
        case("wide head", 2048, 150, 128, 128),
        case("narrow head", 2048, 30, 128, 128),
        case("wide features", 2048, 30, 512, 512),
        case("world model", 65536, 5, 1, 64),
    ]


# N, K, D; the head reads as many features as it predicts.
MEMORY_SIZES = [(2048, 30, 128), (2048, 150, 128), (2048, 30, 512), (2048, 150, 512)]
MIB = 2**20


def peak_memory(provider: str, samples: int, components: int, features: int) -> float:
    """MiB that a training step needs at its peak, above its tensors and the gradients it leaves."""
    torch.manual_seed(0)
    rows = components * (1 + 2 * features)
    weight = (0.3 * features**-0.5 * torch.randn(rows, features)).requires_grad_()
    x, h = torch.randn(samples, features), torch.randn(samples, features, requires_grad=True)
    bias = torch.zeros(rows, requires_grad=True)
    leaves = [h, weight, bias]
    function = providers(components)[provider]
    function(x, *leaves).backward()  # libraries, threads and the compiler's work
    for leaf in leaves:
        leaf.grad = None
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    function(x, *leaves).backward()
    return (_status("VmHWM") - before - sum(leaf.nbytes for leaf in leaves)) / MIB


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main() -> None:
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # what is freed does not stay with the process
    names = list(providers(1))
    print("|", " | ".join(["N", "K", "D = H", *names]), "|")
    for sizes in MEMORY_SIZES:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            peaks = [pool.apply(peak_memory, (name, *sizes)) for name in names]
        print("|", " | ".join([*map(str, sizes), *(f"{peak:.0f}" for peak in peaks)]), "|", flush=True)


if __name__ == "__main__":
    main()
